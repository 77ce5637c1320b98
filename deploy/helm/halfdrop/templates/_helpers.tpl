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

{{/*
What the planner plans, as a JSON array of its pools: each plan that a GPUPool of this release follows, from all the pools
that follow it, and then forecaster.pools, which count more.
*/}}
{{- define "halfdrop.plannedPools" -}}
{{- $top := . }}{{- $plans := dict }}
{{- range $name, $pool := include "halfdrop.pools" . | fromJson }}
{{- if and $top.Values.hub.enabled $pool.pool.enabled }}
{{- $plan := $pool.pool.plan | default $name }}
{{- $steady := ternary 0 1 $pool.spot }}
{{- $low := ternary $pool.replicas $pool.scaling.minReplicas (eq $pool.scaling.kind "None") }}
{{- $high := ternary $pool.replicas $pool.scaling.maxReplicas (eq $pool.scaling.kind "None") }}
{{- $known := get $plans $plan | default (dict "classes" list "price" 0 "steady" 0 "boot" 0 "low" 0 "high" 0) }}
{{- /* Of two prices that of nodes which stay. */}}
{{- $price := ternary $pool.pool.costPerReplicaHour $known.price (ge $steady (int $known.steady)) }}
{{- $_ := set $plans $plan (dict
  "classes" (concat $known.classes $pool.classes | uniq)
  "price" $price
  "steady" (max $steady (int $known.steady))
  "boot" (max (int $pool.pool.bootSecondsAssumed) (int $known.boot))
  "low" (add (int $low) (int $known.low))
  "high" (add (int $high) (int $known.high))) }}
{{- end }}
{{- end }}
{{- $pools := dict }}
{{- range $plan, $of := $plans }}
{{- $pool := dict
  "region" $top.Values.region "name" $plan "price_per_hour" $of.price
  "boot_min_s" (div (int $of.boot) 2) "boot_max_s" $of.boot
  "policy" (dict "replicas_min" $of.low "replicas_max" $of.high) }}
{{- /* All classes: said by none, so that one that comes later is planned, too. */}}
{{- if lt (len $of.classes) 3 }}{{ $_ := set $pool "classes" ($of.classes | sortAlpha) }}{{ end }}
{{- $_ := set $pools (printf "%s.%s" $top.Values.region $plan) $pool }}
{{- end }}
{{- range .Values.forecaster.pools }}
{{- $_ := set $pools (printf "%s.%s" .region .name) . }}
{{- end }}
{{- $found := list }}
{{- range $key, $pool := $pools }}{{ $found = append $found $pool }}{{ end }}
{{- toJson $found }}
{{- end }}

{{- define "halfdrop.site" -}}{{ .Values.edge.site | default .Release.Name | trunc 28 | trimSuffix "-" }}{{- end }}
