CREATE VIEW IF NOT EXISTS calls_cost_daily AS
SELECT toDate(ts) AS day, project, upstream, provider, model_requested AS model, count() AS calls,
    sum(c.input_tokens) AS input_tokens, sum(c.output_tokens) AS output_tokens,
    sum(c.cache_read_tokens) AS cache_read_tokens,
    sum(toDecimal128(c.cost_usd, 9)) AS cost_usd, countIf(isNull(c.cost_usd)) AS calls_without_price
FROM calls AS c GROUP BY day, project, upstream, provider, model;

CREATE VIEW IF NOT EXISTS calls_latency_hourly AS
SELECT toStartOfHour(ts) AS hour, project, upstream, model_requested AS model, stream, count() AS calls,
    quantiles(0.5, 0.9, 0.99)(duration_us) AS duration_us_quantiles,
    quantiles(0.5, 0.9, 0.99)(ttft_us) AS ttft_us_quantiles,
    quantiles(0.5, 0.9, 0.99)(tpot_us) AS tpot_us_quantiles
FROM calls WHERE status = 'ok' GROUP BY hour, project, upstream, model, stream;

CREATE VIEW IF NOT EXISTS calls_errors_hourly AS
SELECT toStartOfHour(ts) AS hour, project, upstream, model_requested AS model, count() AS calls,
    countIf(status != 'ok') AS failed, countIf(status = 'aborted') AS aborted,
    topKIf(5)(error_type, status = 'error') AS top_error_types
FROM calls GROUP BY hour, project, upstream, model;
