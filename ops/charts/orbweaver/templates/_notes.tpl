{{/* What is done in place of values of Spiderpool's chart that have no meaning here, a line each. */}}
{{- define "orbweaver.notes" -}}
{{- range $path, $said := dict
  "spiderpoolAgent.binName" "the image's own program runs: orbweaver-agent"
  "spiderpoolAgent.debug.gopsPort" "Python has no gops; kubectl orb node doctor and the log say what an agent does"
  "spiderpoolAgent.prometheus.enabledDebugMetric" "agents have one set of metrics, all of them on by prometheus.enabled"
  "spiderpoolController.binName" "the image's own program runs: orbweaver-controller"
  "spiderpoolController.debug.gopsPort" "Python has no gops; /readyz and the log say what a controller does"
  "spiderpoolController.tls.auto.caExpiration" "the controllers make the authority and rotate it themselves"
  "spiderpoolController.tls.auto.certExpiration" "the controllers make the certificate and rotate it themselves"
  "spiderpoolInit" "a Job with the controllers' image makes the first objects: what clusterDefaultPool and coordinator say"
}}
{{- $value := $.Values }}
{{- range splitList "." $path }}
{{- $value = get (default dict $value) . }}
{{- end }}
{{- if $value }}
  {{ $path }}: {{ $said }}
{{- end }}
{{- end }}
{{- with .Values.rdma.rdmaSharedDevicePlugin }}
{{- if .install }}
  rdma.rdmaSharedDevicePlugin.install: agents offer the devices of deviceConfig; no plugin is installed
{{- if hasKey .deviceConfig "periodicUpdateInterval" }}
  rdma.rdmaSharedDevicePlugin.deviceConfig.periodicUpdateInterval: without effect ({{ .deviceConfig.periodicUpdateInterval }}); agents read devices every five seconds
{{- end }}
{{- range $name, $value := omit . "install" "name" "deviceConfig" }}
{{- if $value }}
  rdma.rdmaSharedDevicePlugin.{{ $name }}: without effect; it is for the program of the RDMA shared device plugin
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.sriov.install }}
  sriov.install: agents make the virtual functions and serve SriovNetworkNodePolicies of all namespaces; no operator is installed
{{- range $plural := list "sriovnetworknodepolicies" "sriovnetworknodestates" }}
{{- $name := printf "%s.sriovnetwork.openshift.io" $plural }}
{{- $there := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" $name }}
{{- if and $there (not (include "orbweaver.sriov.isOurs" (dict "root" $ "there" $there))) }}
  sriov.install: the definition {{ $name }} is not this release's and stays as it is
{{- end }}
{{- end }}
{{- range $name, $value := omit .Values.sriov "install" "resourcePrefix" "operatorConfig" }}
{{- if or $value (kindIs "bool" $value) }}
  sriov.{{ $name }}: without effect; it is for the programs of the SR-IOV network operator
{{- end }}
{{- end }}
{{- range $name, $value := omit .Values.sriov.operatorConfig "configDaemonNodeSelector" "disableDrain" }}
{{- if or $value (kindIs "bool" $value) }}
  sriov.operatorConfig.{{ $name }}: without effect; it is for the programs of the SR-IOV network operator
{{- end }}
{{- end }}
{{- end }}
{{- range $name := list "spiderpoolAgent" "spiderpoolController" }}
{{- if hasPrefix "spidernet-io/spiderpool/" (index $.Values $name).image.repository }}
  {{ $name }}.image: Spiderpool's program is replaced by ours, of the chart's version
{{- end }}
{{- end }}
{{- if and (not .Values.orbweaver.standby) (gt (int .Values.spiderpoolController.replicas) (int (include "orbweaver.controller.replicas" .))) }}
  spiderpoolController.replicas: one controller runs, because only one node can mount the archive's volume; archive.accessMode=ReadWriteMany or archive.existingClaim lets more run
{{- end }}
{{- $multus := .Values.multus.multusCNI }}
{{- if and $multus.install (not (hasSuffix "-thick" $multus.image.tag)) }}
  multus.multusCNI.image.tag: {{ $multus.image.tag }}-thick is taken; Multus runs as a daemon
{{- end }}
{{- end }}
