{{- define "tasklog.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* A StatefulSet's name and a hash make a label of 63 characters at most: 46, and "-redis". */}}
{{- define "tasklog.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 46 | trimSuffix "-" }}
{{- else if contains (include "tasklog.name" .) .Release.Name }}
{{- .Release.Name | trunc 46 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "tasklog.name" .) | trunc 46 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "tasklog.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: miroir
{{ include "tasklog.selector" . }}
{{- end }}

{{/* Of the pods of either kind; a component tells them apart. */}}
{{- define "tasklog.selector" -}}
app.kubernetes.io/name: {{ include "tasklog.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tasklog.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "tasklog.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "tasklog.tokensSecret" -}}
{{- default (printf "%s-tokens" (include "tasklog.fullname" .)) .Values.auth.existingSecret }}
{{- end }}

{{- define "tasklog.tlsSecret" -}}
{{- default (printf "%s-tls" (include "tasklog.fullname" .)) .Values.tls.existingSecret }}
{{- end }}

{{- define "tasklog.storeSecret" -}}
{{- default (printf "%s-store" (include "tasklog.fullname" .)) .Values.taskStore.urlSecret.name }}
{{- end }}

{{- define "tasklog.redisSecret" -}}
{{- default (printf "%s-redis" (include "tasklog.fullname" .)) .Values.redis.existingSecret }}
{{- end }}

{{/* Where the store is, as environment variables. The URL is one, so that no argument shows it. */}}
{{- define "tasklog.storeEnv" -}}
{{- $store := .Values.taskStore }}
{{- if eq $store.backend "sqlite" }}
- name: TASKLOG_STORE
  value: {{ printf "sqlite:%s" $store.path | quote }}
{{- else if $store.url }}
- name: TASKLOG_STORE
  value: {{ $store.url | quote }}
{{- if $store.passwordSecret.name }}
- name: TASKLOG_REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $store.passwordSecret.name }}
      key: {{ $store.passwordSecret.key }}
{{- end }}
{{- else if .Values.redis.enabled }}
- name: TASKLOG_STORE
  value: {{ printf "redis://%s-redis:6379/0" (include "tasklog.fullname" .) | quote }}
- name: TASKLOG_REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "tasklog.redisSecret" . }}
      key: {{ .Values.redis.passwordKey }}
{{- else }}
- name: TASKLOG_STORE
  valueFrom:
    secretKeyRef:
      name: {{ include "tasklog.storeSecret" . }}
      key: {{ $store.urlSecret.key }}
{{- end }}
{{- end }}

{{- define "tasklog.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "tasklog.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The values that rules are about, for the program. */}}
{{- define "tasklog.config" -}}
{{- $store := pick .Values.taskStore "backend" "path" }}
{{- $ruled := pick .Values "miroir" "search_ui" "admin_ui" "cdc" "leader_election" }}
{{- toPrettyJson (merge (dict "taskStore" $store) $ruled) }}
{{- end }}

{{- define "tasklog.pod" -}}
{{- $full := include "tasklog.fullname" . }}
metadata:
  labels:
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- include "tasklog.labels" . | nindent 4 }}
    app.kubernetes.io/component: server
  annotations:
    checksum/config: {{ include "tasklog.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "tasklog.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "tasklog.podSecurity" . | nindent 4 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if eq .Values.taskStore.backend "redis" }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "tasklog.selector" $ | nindent 10 }}
          app.kubernetes.io/component: server
    {{- end }}
  {{- end }}
  containers:
    - name: tasklog
      {{- with .Values.image }}
      image: {{ if .digest }}{{ printf "%s@%s" .repository .digest | quote }}{{ else }}{{ printf "%s:%s" .repository (default $.Chart.AppVersion .tag) | quote }}{{ end }}
      imagePullPolicy: {{ .pullPolicy }}
      {{- end }}
      args:
        - serve
        - --listen=0.0.0.0:7711
        - --metrics-listen=0.0.0.0:{{ .Values.metrics.port }}
        - --config=/etc/tasklog/config/values.json
        - --token-file=/etc/tasklog/tokens/token
        {{- if .Values.auth.readTokenKey }}
        - --read-token-file=/etc/tasklog/tokens/read-token
        {{- end }}
        {{- if .Values.auth.sensitiveTokenKey }}
        - --sensitive-token-file=/etc/tasklog/tokens/sensitive-token
        {{- end }}
        {{- if .Values.tls.enabled }}
        - --tls-cert=/etc/tasklog/tls/tls.crt
        - --tls-key=/etc/tasklog/tls/tls.key
        {{- end }}
        - --shutdown-ms={{ .Values.server.shutdownMs | int64 }}
        - --wait-for-store={{ .Values.server.waitForStoreSeconds | int64 }}
        - --log-format={{ .Values.server.logFormat }}
        {{- range .Values.server.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: TASKLOG_LOG
          value: {{ .Values.server.log | quote }}
        {{- include "tasklog.storeEnv" . | trim | nindent 8 }}
        {{- with .Values.server.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: http
          containerPort: 7711
        - name: metrics
          containerPort: {{ .Values.metrics.port }}
      # The metrics port answers them: plain HTTP, without a token.
      startupProbe:
        httpGet:
          path: /healthz
          port: metrics
        periodSeconds: 5
        failureThreshold: 60
      livenessProbe:
        httpGet:
          path: /healthz
          port: metrics
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /readyz
          port: metrics
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      lifecycle:
        preStop:
          sleep:
            seconds: {{ .Values.preStopSleepSeconds }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- include "tasklog.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - name: data
          mountPath: /data
        - name: tmp
          mountPath: /tmp
        - name: config
          mountPath: /etc/tasklog/config
          readOnly: true
        - name: tokens
          mountPath: /etc/tasklog/tokens
          readOnly: true
        {{- if .Values.tls.enabled }}
        - name: tls
          mountPath: /etc/tasklog/tls
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: 1Gi
    {{- if eq .Values.taskStore.backend "redis" }}
    - name: data
      emptyDir:
        sizeLimit: 1Gi
    {{- end }}
    - name: config
      configMap:
        name: {{ $full }}-config
    - name: tokens
      secret:
        secretName: {{ include "tasklog.tokensSecret" . }}
        defaultMode: 0440
        items:
          - key: {{ .Values.auth.tokenKey }}
            path: token
          {{- with .Values.auth.readTokenKey }}
          - key: {{ . }}
            path: read-token
          {{- end }}
          {{- with .Values.auth.sensitiveTokenKey }}
          - key: {{ . }}
            path: sensitive-token
          {{- end }}
    {{- if .Values.tls.enabled }}
    - name: tls
      secret:
        secretName: {{ include "tasklog.tlsSecret" . }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* At which size of the log an alert warns. */}}
{{- define "tasklog.logBytes" -}}
{{- $set := int64 .Values.prometheusRule.logBytes }}
{{- if $set }}
{{- $set }}
{{- else if and .Values.redis.enabled (eq .Values.taskStore.backend "redis") (not .Values.taskStore.url) }}
{{- $amount := regexFind "^[0-9]+" .Values.redis.maxmemory | int64 }}
{{- $unit := dict "kb" 1024 "mb" 1048576 "gb" 1073741824 }}
{{- div (mul $amount (get $unit (regexFind "[a-z]+$" .Values.redis.maxmemory)) 4) 5 }}
{{- else }}
{{- 8000000000 }}
{{- end }}
{{- end }}
