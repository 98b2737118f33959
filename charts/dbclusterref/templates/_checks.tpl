{{- /* What no schema can say: settings that are each valid and wrong together. */}}
{{- define "dbclusterref.checks" -}}
{{- if and (gt (int .Values.replicaCount) 1) (not .Values.leaderElection.enabled) }}
{{- fail "replicaCount above 1 needs leaderElection.enabled: without it all of them write" }}
{{- end }}
{{- if and (gt (int .Values.replicaCount) 1) (gt (int .Values.shards) 1) }}
{{- fail "shards and replicaCount exclude each other: each shard is one pod of a StatefulSet. Set one of them to 1" }}
{{- end }}
{{- if and (ne .Values.rbac.scope "cluster") (not .Values.namespaces) }}
{{- fail (printf "rbac.scope %s needs namespaces: list the namespaces to serve" .Values.rbac.scope) }}
{{- end }}
{{- if and (eq .Values.rbac.scope "names") (not .Values.rbac.secretNames) }}
{{- fail "rbac.scope names needs rbac.secretNames: list the Secrets the operator writes" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
{{- fail "metrics.serviceMonitor and metrics.podMonitor exclude each other: both would scrape the same pods. Enable one" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.service.enabled) }}
{{- fail "metrics.serviceMonitor needs metrics.service.enabled; or enable metrics.podMonitor instead" }}
{{- end }}
{{- end }}
