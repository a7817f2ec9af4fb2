{{/* A line for each value of Spiderpool's chart that is set and has no effect here: what is done instead. */}}
{{- define "orbweaver.notes" -}}
{{- range $path, $note := dict
  "spiderpoolAgent.binName" "the image runs orbweaver-agent"
  "spiderpoolAgent.debug.gopsPort" "Python has no gops; use kubectl orb node doctor and the log of the agent"
  "spiderpoolAgent.prometheus.enabledDebugMetric" "prometheus.enabled switches on all metrics of agents"
  "spiderpoolController.binName" "the image runs orbweaver-controller"
  "spiderpoolController.debug.gopsPort" "Python has no gops; use /readyz and the log of the controller"
  "spiderpoolController.tls.auto.caExpiration" "the controllers create and rotate the authority"
  "spiderpoolController.tls.auto.certExpiration" "the controllers create and rotate the certificate"
  "spiderpoolInit" "a Job with the controllers' image creates the objects of clusterDefaultPool and coordinator"
}}
{{- $value := $.Values }}
{{- range splitList "." $path }}
{{- $value = get (default dict $value) . }}
{{- end }}
{{- if $value }}
  {{ $path }}: {{ $note }}
{{- end }}
{{- end }}
{{- with .Values.rdma.rdmaSharedDevicePlugin }}
{{- if .install }}
  rdma.rdmaSharedDevicePlugin.install: agents advertise the devices of deviceConfig; no plugin is installed
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
  sriov.install: agents create the virtual functions of SriovNetworkNodePolicies in all namespaces; no operator is installed
{{- range $plural := list "sriovnetworknodepolicies" "sriovnetworknodestates" }}
{{- $name := printf "%s.sriovnetwork.openshift.io" $plural }}
{{- $there := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" $name }}
{{- if and $there (not (include "orbweaver.sriov.isOurs" (dict "root" $ "there" $there))) }}
  sriov.install: the CRD {{ $name }} does not belong to this release and is not changed
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
  {{ $name }}.image: the image of Orbweaver with the chart's version is used instead of Spiderpool's
{{- end }}
{{- end }}
{{- if and (not .Values.orbweaver.standby) (gt (int .Values.spiderpoolController.replicas) (int (include "orbweaver.controller.replicas" .))) }}
  spiderpoolController.replicas: one controller runs, because only one node can mount the archive's volume; set archive.accessMode=ReadWriteMany or archive.existingClaim for more
{{- end }}
{{- $multus := .Values.multus.multusCNI }}
{{- if and $multus.install (not (hasSuffix "-thick" $multus.image.tag)) }}
  multus.multusCNI.image.tag: {{ $multus.image.tag }}-thick is used; Multus runs as a daemon
{{- end }}
{{- end }}
