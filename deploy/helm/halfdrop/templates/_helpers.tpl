{{- define "halfdrop.name" -}}{{ .Release.Name | trunc 20 | trimSuffix "-" }}{{- end }}

{{/* Labels of an object: (list $ "edge"). */}}
{{- define "halfdrop.labels" -}}
{{- $top := index . 0 -}}
app.kubernetes.io/name: halfdrop
app.kubernetes.io/instance: {{ $top.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/version: {{ $top.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $top.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $top.Chart.Name $top.Chart.Version }}
{{- end }}

{{/* What selects the pods of a component: never changes over a release. */}}
{{- define "halfdrop.selector" -}}
app.kubernetes.io/name: halfdrop
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* An image of ours: (list $ .Values.edge.image "tag or empty"). */}}
{{- define "halfdrop.image" -}}
{{- $top := index . 0 -}}{{- $image := index . 1 -}}{{- $v := $top.Values.image -}}
{{- with $v.registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ index . 2 | default $v.tag | default $top.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "halfdrop.pull" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "halfdrop.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "halfdrop.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* JetStream domain of the hub: hub, or hub-REGION where there are several. */}}
{{- define "halfdrop.hubDomain" -}}
{{- if eq .Values.region "local" }}hub{{ else }}hub-{{ .Values.region }}{{ end }}
{{- end }}

{{/* NATS of the hub as its clients name it: the password from the environment, whom to believe from a file. */}}
{{- define "halfdrop.hubNatsEnv" -}}
{{- $top := index . 0 -}}{{- $user := index . 1 -}}{{- $variable := index . 2 -}}{{- $before := "" -}}
{{- if gt (len .) 3 }}{{ $before = index . 3 }}{{ end -}}
- name: NATS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $top.Values.nats.hub.usersSecret }}, key: {{ $user }}}}
- name: {{ $variable }}
  value: {{ $before }}tls://{{ $user }}:$(NATS_PASSWORD)@{{ include "halfdrop.name" $top }}-nats.{{ $top.Release.Namespace }}.svc:4222?ca=/etc/halfdrop/tls/ca.crt
{{- end }}

{{- define "halfdrop.commonEnv" -}}
- name: HALFDROP_LOG_LEVEL
  value: {{ .Values.logLevel }}
{{- with .Values.tracing.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{/* The object store's variables that are no secret. */}}
{{- define "halfdrop.objectsEnv" -}}
{{- range $name, $value := .Values.objects.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "halfdrop.objectsFrom" -}}
{{- with .Values.objects.secret }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end }}

{{/* Settings that people give: (list "HALFDROP_EDGE_" .Values.edge.settings). */}}
{{- define "halfdrop.settings" -}}
{{- $prefix := index . 0 -}}
{{- range $name, $value := index . 1 }}
- name: {{ $prefix }}{{ upper $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end }}

{{- define "halfdrop.priority" -}}
{{- if (index . 0).Values.priorityClasses.create }}
priorityClassName: {{ include "halfdrop.name" (index . 0) }}-{{ index . 1 }}
{{- end }}
{{- end }}

{{/* One host of each kind before two of one. */}}
{{- define "halfdrop.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: {matchLabels: {{ include "halfdrop.selector" . | fromYaml | toJson }}}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: {matchLabels: {{ include "halfdrop.selector" . | fromYaml | toJson }}}
{{- end }}

{{/* A NetworkPolicy's peer: the pods of a component. */}}
{{- define "halfdrop.from" -}}
{podSelector: {matchLabels: {{ include "halfdrop.selector" . | fromYaml | toJson }}}}
{{- end }}

{{/* The pools, each with its defaults filled in, as JSON. */}}
{{- define "halfdrop.pools" -}}
{{- $pools := dict }}
{{- range $name, $given := .Values.hub.pools }}
{{- $_ := set $pools $name (mergeOverwrite (deepCopy $.Values.hub.poolDefaults) ($given | default dict)) }}
{{- end }}
{{- toJson $pools }}
{{- end }}

{{- define "halfdrop.site" -}}{{ .Values.edge.site | default .Release.Name | trunc 28 | trimSuffix "-" }}{{- end }}
