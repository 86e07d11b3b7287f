{{- define "bgclient.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "bgclient.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "bgclient.labels" -}}
{{ include "bgclient.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "bgclient.image" -}}
{{- $kind := ternary "cpu" "gpu" (eq .Values.variant "cpu") -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (printf "%s-%s" .Chart.AppVersion $kind) }}
{{- end }}
{{- end }}

{{- define "bgclient.plansClaim" -}}
{{ .Values.plans.persistence.existingClaim | default (printf "%s-plans" (include "bgclient.name" .)) }}
{{- end }}

{{/* Seconds that the front may need for what it accepted, and a few to end. */}}
{{- define "bgclient.webDrain" -}}
{{ ternary (add .Values.web.drainSeconds 5) 0 .Values.web.enabled }}
{{- end }}

{{/* Nothing may be gained from a container that was taken over. */}}
{{- define "bgclient.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Requests and limits, with the GPUs of the GPU variants. */}}
{{- define "bgclient.serverResources" -}}
{{- $resources := deepCopy .Values.server.resources -}}
{{- if ne .Values.variant "cpu" -}}
{{- $_ := set $resources "limits" (merge (dict "nvidia.com/gpu" .Values.server.gpus) ($resources.limits | default dict)) -}}
{{- end -}}
{{ toYaml $resources }}
{{- end }}

{{- define "bgclient.serverMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: shm, mountPath: /dev/shm}
{{- if eq .Values.variant "trt" }}
- {name: plans, mountPath: /plans}
{{- end }}
{{- if .Values.server.tlsSecret }}
- {name: tls, mountPath: /tls, readOnly: true}
{{- end }}
{{- end }}

{{/* Up at once, down slowly: a new pod needs its warm-up, on GPUs minutes for a node. */}}
{{- define "bgclient.scalingBehavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - {type: Percent, value: 100, periodSeconds: 30}
scaleDown:
  stabilizationWindowSeconds: 300
  policies:
    - {type: Pods, value: 1, periodSeconds: 60}
{{- end }}
