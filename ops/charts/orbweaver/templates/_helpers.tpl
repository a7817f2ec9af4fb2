{{/* Definitions for several templates. "Context: root, x" means that the argument is `dict "root" $ "x" ...`. */}}

{{- define "orbweaver.name" -}}
{{ default .Chart.Name .Values.global.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The labels that select Pods; they never change. Context: root, component. */}}
{{- define "orbweaver.selector" -}}
app.kubernetes.io/name: {{ include "orbweaver.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The labels of an object. Context: root, component, labels (additional ones, optional). */}}
{{- define "orbweaver.labels" -}}
{{ include "orbweaver.selector" . }}
app.kubernetes.io/part-of: orbweaver
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with merge (deepCopy (default dict .labels)) .root.Values.global.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The metadata of an object in the release's namespace. Context: root, component, name, labels and annotations (optional). */}}
{{- define "orbweaver.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
{{ include "orbweaver.unplaced" . }}
{{- end }}

{{/* The metadata without name and namespace, for objects without a namespace or in another one. */}}
{{- define "orbweaver.unplaced" -}}
labels:
  {{- include "orbweaver.labels" . | nindent 2 }}
{{- with merge (deepCopy (default dict .annotations)) .root.Values.global.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
An image reference. global.imageRegistryOverride replaces the registry that the chart names; a registry that the user
names stays. Orbweaver's image replaces an image of Spiderpool's programs, which values files of Spiderpool may name.
Context: root, image; registry: the one that the chart names, optional; own: the name of Orbweaver's image, optional.
*/}}
{{- define "orbweaver.image" -}}
{{- $chart := default "" .registry -}}
{{- $image := .image -}}
{{- if and .own (hasPrefix "spidernet-io/spiderpool/" $image.repository) -}}
{{- $image = dict "registry" "" "repository" .own "tag" "" "digest" "" -}}
{{- end -}}
{{- $named := default $chart $image.registry -}}
{{- $registry := ternary (default $chart .root.Values.global.imageRegistryOverride) $named (eq $named $chart) -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .root.Chart.AppVersion $image.tag }}{{ end }}
{{- end }}

{{/* The thresholds and the period of a probe. Context: one of healthChecking. */}}
{{- define "orbweaver.probeThresholds" -}}
failureThreshold: {{ int .failureThreshold }}
periodSeconds: {{ int .periodSeconds }}
{{- end }}

{{/* A container's securityContext; the user's values override it. Context: context, extra. */}}
{{- define "orbweaver.security" -}}
{{- $context := mergeOverwrite (fromYaml .context) (deepCopy .extra) -}}
{{- if $context.privileged }}{{ $_ := set $context "allowPrivilegeEscalation" true }}{{ end -}}
{{- toYaml $context }}
{{- end }}

{{- define "orbweaver.pullSecrets" -}}
{{- with .imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The address on which a process listens for probes: all addresses if it is scraped or in the Pod network. */}}
{{- define "orbweaver.everywhere" -}}
{{ ternary "0.0.0.0" "::" .Values.ipam.enableIPv4 }}
{{- end }}
{{- define "orbweaver.loopback" -}}
{{ ternary "127.0.0.1" "::1" .Values.ipam.enableIPv4 }}
{{- end }}

{{/* ------------------------------------------------------------------------------------ etcd */}}

{{- define "orbweaver.etcd.name" -}}
{{ include "orbweaver.name" . }}-etcd
{{- end }}

{{- define "orbweaver.etcd.domain" -}}
{{ include "orbweaver.etcd.name" . }}.{{ .Release.Namespace }}.svc.{{ .Values.global.clusterDnsDomain }}
{{- end }}

{{- define "orbweaver.etcd.endpoints" -}}
{{- if .Values.etcd.embedded.enabled -}}
{{- $found := list -}}
{{- range until (int .Values.etcd.embedded.replicas) -}}
{{- $found = append $found (printf "%s-%d.%s:%d" (include "orbweaver.etcd.name" $) . (include "orbweaver.etcd.domain" $) (int $.Values.etcd.embedded.clientPort)) -}}
{{- end -}}
{{ join "," $found }}
{{- else -}}
{{ join "," .Values.etcd.endpoints }}
{{- end }}
{{- end }}

{{/* The Secret of .kind: member, agent, controller, root or metrics. Agents and controllers may share a client certificate. */}}
{{- define "orbweaver.etcd.secret" -}}
{{- $tls := .root.Values.etcd.tls }}
{{- $made := printf "%s-%s" (include "orbweaver.etcd.name" .root) .kind }}
{{- if has .kind (list "agent" "controller") }}{{ $made = default $made $tls.clientSecret }}{{ end }}
{{- default $made (index $tls (printf "%sSecret" .kind)) }}
{{- end }}

{{/* The environment variables for agents, controllers and orbctl in their Pods. */}}
{{- define "orbweaver.etcd.env" -}}
- name: ORBWEAVER_ETCD_ENDPOINTS
  value: {{ include "orbweaver.etcd.endpoints" . | quote }}
- name: ORBWEAVER_CLUSTER
  value: {{ .Values.orbweaver.cluster | quote }}
{{- if ne .Values.etcd.tls.method "none" }}
- {name: ORBWEAVER_ETCD_CA_FILE, value: /etc/orbweaver/etcd/ca.crt}
- {name: ORBWEAVER_ETCD_CERT_FILE, value: /etc/orbweaver/etcd/tls.crt}
- {name: ORBWEAVER_ETCD_KEY_FILE, value: /etc/orbweaver/etcd/tls.key}
{{- end }}
{{- with .Values.etcd.user }}
- name: ORBWEAVER_ETCD_USER
  value: {{ . | quote }}
- {name: ORBWEAVER_ETCD_PASSWORD_FILE, value: /etc/orbweaver/etcd-password/password}
{{- end }}
{{- end }}

{{- define "orbweaver.etcd.mounts" -}}
{{- if ne .Values.etcd.tls.method "none" }}
- {name: etcd-tls, mountPath: /etc/orbweaver/etcd, readOnly: true}
{{- end }}
{{- if .Values.etcd.user }}
- {name: etcd-password, mountPath: /etc/orbweaver/etcd-password, readOnly: true}
{{- end }}
{{- end }}

{{/* The volume with the client certificate of .kind. Context: root, kind. */}}
{{- define "orbweaver.etcd.volumes" -}}
{{- $etcd := .root.Values.etcd }}
{{- if ne $etcd.tls.method "none" }}
- name: etcd-tls
  secret: {secretName: {{ include "orbweaver.etcd.secret" . }}, defaultMode: 0440}
{{- end }}
{{- if $etcd.user }}
- name: etcd-password
  secret: {secretName: {{ required "etcd.user needs etcd.passwordSecret" $etcd.passwordSecret }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{/* The probe of a member by kubelet. */}}
{{- define "orbweaver.etcd.probe" -}}
{{- if .byPort -}}
tcpSocket: {port: client}
{{- else if ne .root.Values.etcd.tls.method "none" -}}
httpGet: {host: {{ include "orbweaver.loopback" .root | quote }}, path: {{ .path }}, port: metrics}
{{- else -}}
httpGet: {path: {{ .path }}, port: metrics}
{{- end }}
{{- end }}

{{/* Whether agents and controllers have different certificates, so that etcd can require authentication. */}}
{{- define "orbweaver.etcd.guarded" -}}
{{- if and .Values.etcd.embedded.enabled (or (has .Values.etcd.tls.method (list "auto" "certmanager")) .Values.etcd.tls.rootSecret) }}yes{{ end }}
{{- end }}

{{/* Whether a hook creates the certificates of etcd. */}}
{{- define "orbweaver.etcd.made" -}}
{{- if and .Values.etcd.embedded.enabled (eq .Values.etcd.tls.method "auto") }}yes{{ end }}
{{- end }}

{{/* -------------------------------------------------------------------------------- controller */}}

{{- define "orbweaver.webhook.secret" -}}
{{ default (printf "%s-server-certs" .Values.spiderpoolController.name) .Values.spiderpoolController.tls.secretName }}
{{- end }}

{{/* The number of controllers: one if only one node can mount the archive's volume. */}}
{{- define "orbweaver.controller.replicas" -}}
{{- $replicas := int .Values.spiderpoolController.replicas -}}
{{- if .Values.orbweaver.standby }}{{ $replicas = 0 }}{{ end -}}
{{- $archive := .Values.archive -}}
{{- if and $archive.enabled (ne $archive.accessMode "ReadWriteMany") (not $archive.existingClaim) -}}
{{- $replicas = min $replicas 1 -}}
{{- end -}}
{{ $replicas }}
{{- end }}

{{/* The authority of the webhooks' certificate, PEM in base64, if it is provided. */}}
{{- define "orbweaver.webhook.authority" -}}
{{- $tls := .Values.spiderpoolController.tls -}}
{{ required "spiderpoolController.tls.method: provided needs spiderpoolController.tls.caBundle, base64 of its CA in PEM" (default $tls.caBundle $tls.provided.tlsCa) }}
{{- end }}

{{/* The Pod webhook excludes our own Pods: otherwise no controller could start while none runs. */}}
{{- define "orbweaver.inject.exclude" -}}
{{ append .Values.spiderpoolController.podResourceInject.namespacesExclude .Release.Namespace | uniq | toJson }}
{{- end }}

{{/* A securityContext without root, without capabilities, with a read-only file system. */}}
{{- define "orbweaver.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "orbweaver.nobody" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* ------------------------------------------------------------------------------------ checks */}}

{{- define "orbweaver.checks" -}}
{{- with .Values.orbweaver.console -}}
{{- $own := $.Values.spiderpoolController -}}
{{- $ports := dict "httpPort" $own.httpPort "webhookPort" $own.webhookPort -}}
{{- if $own.prometheus.enabled -}}
{{- $_ := set $ports "prometheus.port" $own.prometheus.port -}}
{{- end -}}
{{- range $name, $port := $ports -}}
{{- if and $.Values.orbweaver.console.enabled (eq (int $port) (int $.Values.orbweaver.console.port)) -}}
{{- fail (printf "orbweaver.console.port: %d is also spiderpoolController.%s" (int $port) $name) -}}
{{- end -}}
{{- end -}}
{{- if and .enabled .workflowActions (ne .auth "token-review") -}}
{{- fail "orbweaver.console.workflowActions needs orbweaver.console.auth: token-review" -}}
{{- end -}}
{{- end -}}
{{- if not (or .Values.ipam.enableIPv4 .Values.ipam.enableIPv6) -}}
{{- fail "ipam.enableIPv4 and ipam.enableIPv6 are both false" -}}
{{- end -}}
{{- if and (not .Values.etcd.embedded.enabled) (eq .Values.etcd.tls.method "auto") -}}
{{- fail "etcd.tls.method: auto is for the embedded etcd; for another etcd use provided (with etcd.tls.clientSecret), certmanager or none" -}}
{{- end -}}
{{- if not (or .Values.etcd.embedded.enabled .Values.etcd.endpoints) -}}
{{- fail "etcd.endpoints is empty and etcd.embedded.enabled is false: set one of them" -}}
{{- end -}}
{{- $tls := .Values.etcd.tls -}}
{{- if and (eq $tls.method "provided") (not (or $tls.clientSecret (and $tls.agentSecret $tls.controllerSecret))) -}}
{{- fail "etcd.tls.method: provided needs etcd.tls.agentSecret and etcd.tls.controllerSecret, or one etcd.tls.clientSecret for both" -}}
{{- end -}}
{{- if and $tls.clientSecret (has $tls.method (list "auto" "certmanager")) -}}
{{- fail (printf "etcd.tls.clientSecret: agents and controllers need different certificates if etcd.tls.method is %s; remove clientSecret, or set etcd.tls.method to provided" $tls.method) -}}
{{- end -}}
{{- if and $tls.rootSecret (or $tls.clientSecret (not $tls.agentSecret)) (eq $tls.method "provided") -}}
{{- fail "etcd.tls.rootSecret: authentication needs etcd.tls.agentSecret and etcd.tls.controllerSecret with different certificates" -}}
{{- end -}}
{{- if and (eq .Values.etcd.tls.method "provided") .Values.etcd.embedded.enabled (not .Values.etcd.tls.memberSecret) -}}
{{- fail "etcd.tls.method: provided needs etcd.tls.memberSecret for the embedded etcd" -}}
{{- end -}}
{{- if and (eq .Values.etcd.tls.method "certmanager") (not .Values.etcd.tls.certmanager.issuerName) -}}
{{- fail "etcd.tls.method: certmanager needs etcd.tls.certmanager.issuerName" -}}
{{- end -}}
{{- $tls = .Values.spiderpoolController.tls -}}
{{- $pem := $tls.provided -}}
{{- if and (eq $tls.method "provided") (not $tls.secretName) (not $pem.tlsCert) -}}
{{- fail "spiderpoolController.tls.method: provided needs spiderpoolController.tls.provided, or spiderpoolController.tls.secretName with caBundle" -}}
{{- end -}}
{{- if and (eq $tls.method "provided") $pem.tlsCert (not (and $pem.tlsKey $pem.tlsCa)) -}}
{{- fail "spiderpoolController.tls.provided: tlsCert needs tlsKey and tlsCa" -}}
{{- end -}}
{{- end }}

{{/* The name of both webhook configurations: Spiderpool's name, so that its webhooks and ours are never active together. */}}
{{- define "orbweaver.webhooks" -}}
spiderpool-controller
{{- end }}

{{/* A probe of kubelet; in the node's network it uses the loopback address. Context: host, path. */}}
{{- define "orbweaver.probe" -}}
{ {{- with .host }}host: {{ . | quote }}, {{ end }}port: health, path: {{ .path }}}
{{- end }}

{{/* ------------------------------------------------------------------------------------- hooks */}}

{{/* Jobs of the chart run in the node's network too, because they must not need an address of ours. */}}
{{- define "orbweaver.hook.pod" -}}
{{- include "orbweaver.pullSecrets" .Values.spiderpoolController.image }}
hostNetwork: {{ .Values.spiderpoolController.hostnetwork }}
dnsPolicy: {{ ternary "ClusterFirstWithHostNet" "ClusterFirst" .Values.spiderpoolController.hostnetwork }}
nodeSelector:
  {{- toYaml .Values.spiderpoolController.nodeSelector | nindent 2 }}
tolerations:
  {{- toYaml .Values.spiderpoolController.tolerations | nindent 2 }}
securityContext:
  {{- include "orbweaver.nobody" . | nindent 2 }}
{{- end }}

{{- define "orbweaver.hook.container" -}}
image: {{ include "orbweaver.image" (dict "root" . "image" .Values.spiderpoolController.image "own" "orbweaver-controller") }}
imagePullPolicy: {{ .Values.spiderpoolController.image.pullPolicy }}
securityContext:
  {{- include "orbweaver.unprivileged" . | nindent 2 }}
resources: {requests: {cpu: 10m, memory: 64Mi}, limits: {memory: 256Mi}}
{{- end }}

{{- define "orbweaver.archive.claim" -}}
{{ default (printf "%s-archive" (include "orbweaver.name" .)) .Values.archive.existingClaim }}
{{- end }}

{{/* NAMESPACE/NAME of the cluster's default network, by default in the release's namespace. "" for none. */}}
{{- define "orbweaver.defaultNetwork" -}}
{{- with .Values.multus.multusCNI.defaultCniCRName }}
{{- ternary . (printf "%s/%s" $.Release.Namespace .) (contains "/" .) }}
{{- end }}
{{- end }}

{{/* Where Multus, agents and controllers look for a default network that names no namespace. */}}
{{- define "orbweaver.multusNamespace" -}}
{{- $network := include "orbweaver.defaultNetwork" . }}
{{- ternary (dir $network) .Values.multus.multusCNI.multusNamespace (ne $network "") }}
{{- end }}
