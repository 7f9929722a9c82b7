-- Columns of the OpenTelemetry ClickHouse exporter, so that Grafana's trace view works unchanged.
CREATE TABLE IF NOT EXISTS otel_traces (
    Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    ParentSpanId String CODEC(ZSTD(1)),
    TraceState String CODEC(ZSTD(1)),
    SpanName LowCardinality(String) CODEC(ZSTD(1)),
    SpanKind LowCardinality(String) CODEC(ZSTD(1)),
    ServiceName LowCardinality(String) CODEC(ZSTD(1)),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeName String CODEC(ZSTD(1)),
    ScopeVersion String CODEC(ZSTD(1)),
    SpanAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    Duration UInt64 CODEC(ZSTD(1)),
    StatusCode LowCardinality(String) CODEC(ZSTD(1)),
    StatusMessage String CODEC(ZSTD(1)),
    Events Nested (
        Timestamp DateTime64(9),
        Name LowCardinality(String),
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    Links Nested (
        TraceId String,
        SpanId String,
        TraceState String,
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_res_attr_key mapKeys(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_res_attr_value mapValues(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_span_attr_key mapKeys(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_span_attr_value mapValues(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_duration Duration TYPE minmax GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1,
    non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS otel_traces_trace_id_ts (
    TraceId String CODEC(ZSTD(1)),
    Start DateTime CODEC(Delta, ZSTD(1)),
    End DateTime CODEC(Delta, ZSTD(1)),
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toDate(Start)
ORDER BY (TraceId, Start)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS otel_traces_trace_id_ts_mv TO otel_traces_trace_id_ts AS
SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End
FROM otel_traces WHERE TraceId != '' GROUP BY TraceId;

-- Every call is a span too: OTel GenAI semantic conventions v1.41. No message content.
CREATE MATERIALIZED VIEW IF NOT EXISTS calls_to_otel_traces_mv TO otel_traces AS
SELECT
    toDateTime64(ts, 9) AS Timestamp,
    trace_id AS TraceId,
    span_id AS SpanId,
    parent_span_id AS ParentSpanId,
    '' AS TraceState,
    if(operation = 'unknown', concat(method, ' ', upstream), concat(operation, ' ', model_requested)) AS SpanName,
    'Client' AS SpanKind,
    'llmtap' AS ServiceName,
    map('service.name', 'llmtap', 'llmtap.project', project) AS ResourceAttributes,
    'llmtap.proxy' AS ScopeName,
    '' AS ScopeVersion,
    mapFilter((k, v) -> v != '', map(
        'gen_ai.operation.name', if(operation = 'unknown', '', toString(operation)),
        'gen_ai.provider.name', toString(provider),
        'gen_ai.request.model', toString(model_requested),
        'gen_ai.response.model', toString(model_served),
        'gen_ai.response.id', response_id,
        'gen_ai.response.finish_reasons', if(finish_reason = '', '', concat('["', finish_reason, '"]')),
        'gen_ai.request.stream', if(stream, 'true', ''),
        'gen_ai.usage.input_tokens', ifNull(toString(input_tokens), ''),
        'gen_ai.usage.output_tokens', ifNull(toString(output_tokens), ''),
        'gen_ai.usage.cache_read.input_tokens', ifNull(toString(cache_read_tokens), ''),
        'gen_ai.usage.cache_creation.input_tokens', ifNull(toString(cache_write_tokens), ''),
        'gen_ai.usage.reasoning.output_tokens', ifNull(toString(reasoning_tokens), ''),
        'gen_ai.response.time_to_first_chunk', if(isNull(ttft_us), '', toString(ttft_us / 1e6)),
        'gen_ai.prompt.name', toString(prompt_name),
        'gen_ai.conversation.id', session_id,
        'session.id', session_id,
        'user.id', user_id,
        'error.type', if(status IN ('error', 'timeout', 'lost', 'aborted'), if(error_type = '', toString(status), toString(error_type)), ''),
        'http.request.method', toString(method),
        'http.response.status_code', if(http_status = 0, '', toString(http_status)),
        'llmtap.call_id', id,
        'llmtap.upstream', toString(upstream),
        'llmtap.status', toString(status),
        'llmtap.cost_usd', ifNull(toString(cost_usd), '')
    )) AS SpanAttributes,
    duration_us * 1000 AS Duration,
    multiIf(status = 'ok', 'Ok', status IN ('error', 'timeout', 'lost'), 'Error', 'Unset') AS StatusCode,
    error_message AS StatusMessage
FROM calls;
