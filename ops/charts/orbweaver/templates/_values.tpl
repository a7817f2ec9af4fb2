{{/*
Completes .Values, once for all templates. `helm upgrade --reuse-values` takes the defaults of the chart that the release
has, so keys that a later version has added are absent. They get the defaults of this chart (files/values.yaml links to
values.yaml). Keys of the first version stay as they are: they are absent only if the user has removed them with null. null for
a later key means its default, because a template cannot distinguish it from a key that the release lacks.
Each template includes it in its first line.
*/}}
{{- define "orbweaver.values" -}}
{{- if not .Values.complete -}}
{{- $defaults := fromYaml (.Files.Get "files/values.yaml") -}}
{{- $first := fromYaml (.Files.Get "files/first-values.yaml") -}}
{{- include "orbweaver.values.complete" (dict "values" .Values "defaults" $defaults "first" $first) -}}
{{- $_ := set .Values "complete" true -}}
{{- end -}}
{{- end }}

{{/* Adds the keys to values that only defaults has, recursively. Context: values, defaults, first. */}}
{{- define "orbweaver.values.complete" -}}
{{- range $key, $default := .defaults -}}
{{- $value := get $.values $key -}}
{{- if and (kindIs "map" $default) (kindIs "map" $value) -}}
{{- $first := default dict (get $.first $key) -}}
{{- include "orbweaver.values.complete" (dict "values" $value "defaults" $default "first" $first) -}}
{{- else if not (or (hasKey $.values $key) (hasKey $.first $key)) -}}
{{- $_ := set $.values $key $default -}}
{{- end -}}
{{- end -}}
{{- end }}
