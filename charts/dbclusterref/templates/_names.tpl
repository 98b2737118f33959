{{- define "dbclusterref.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "dbclusterref.fullname" -}}
{{- $name := include "dbclusterref.name" . }}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "dbclusterref.account" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "dbclusterref.fullname" .) .Values.serviceAccount.name }}
{{- else }}{{ required "serviceAccount.create is false: name the account in serviceAccount.name" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* Immutable in Deployments, and the same as in deploy/base: a release called dbclusterref can take that over. */}}
{{- define "dbclusterref.selector" -}}
app.kubernetes.io/name: {{ include "dbclusterref.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "dbclusterref.labels" -}}
{{ include "dbclusterref.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "dbclusterref.subjects" -}}
- kind: ServiceAccount
  name: {{ include "dbclusterref.account" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- define "dbclusterref.several" -}}
{{- if or (gt (int .Values.shards) 1) (gt (int .Values.replicaCount) 1) }}true{{ end }}
{{- end }}
