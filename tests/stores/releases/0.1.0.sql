-- The schema of version 0.1.0, as it made it.
CREATE TABLE accounts (
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    cap_usd_micros BIGINT NOT NULL,
    ends_ms BIGINT NOT NULL,
    spent_usd_micros BIGINT NOT NULL,
    reserved_usd_micros BIGINT NOT NULL,
    PRIMARY KEY (scope)
);
CREATE TABLE calls (
    call_id TEXT NOT NULL,
    job_id TEXT,
    lead_id TEXT,
    contractor TEXT,
    step TEXT NOT NULL,
    step_attempt INTEGER NOT NULL,
    call_n INTEGER NOT NULL,
    model TEXT NOT NULL,
    started_ms BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    status INTEGER,
    api_request_id TEXT,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    cost_usd_micros BIGINT NOT NULL,
    price_version TEXT NOT NULL,
    day TEXT NOT NULL,
    PRIMARY KEY (call_id)
);
CREATE INDEX ix_calls_day ON calls (day);
CREATE INDEX ix_calls_job ON calls (job_id);
CREATE INDEX ix_calls_lead ON calls (lead_id);
CREATE INDEX ix_calls_started ON calls (started_ms);
CREATE TABLE jobs (
    job_id TEXT NOT NULL,
    offload TEXT NOT NULL,
    lead_id TEXT NOT NULL,
    contractor TEXT,
    lead_text TEXT NOT NULL,
    photos TEXT NOT NULL,
    request_id TEXT NOT NULL,
    state TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    tries INTEGER NOT NULL,
    finished_ms BIGINT,
    error_code TEXT,
    score INTEGER,
    replay_of TEXT,
    lease_owner TEXT,
    lease_token BIGINT NOT NULL,
    PRIMARY KEY (job_id),
    FOREIGN KEY(replay_of) REFERENCES jobs (job_id)
);
CREATE INDEX ix_jobs_created ON jobs (created_ms);
CREATE INDEX ix_jobs_due ON jobs (due_ms) WHERE finished_ms IS NULL;
CREATE INDEX ix_jobs_lead ON jobs (lead_id);
CREATE INDEX ix_jobs_state ON jobs (state, created_ms);
CREATE UNIQUE INDEX ux_jobs_lead ON jobs (offload, lead_id) WHERE replay_of IS NULL;
CREATE UNIQUE INDEX ux_jobs_open_replay ON jobs (replay_of) WHERE finished_ms IS NULL;
CREATE TABLE orders (
    order_id TEXT NOT NULL,
    offload TEXT NOT NULL,
    route TEXT NOT NULL,
    request_id TEXT NOT NULL,
    received_ms BIGINT NOT NULL,
    request TEXT,
    state TEXT NOT NULL,
    status INTEGER,
    lead_id TEXT,
    job_id TEXT,
    PRIMARY KEY (order_id)
);
CREATE INDEX ix_orders_request ON orders (request_id);
CREATE INDEX ix_orders_state ON orders (state, received_ms);
CREATE TABLE reservations (
    reservation_id TEXT NOT NULL,
    scopes TEXT NOT NULL,
    amount_usd_micros BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (reservation_id)
);
CREATE INDEX ix_reservations_expires ON reservations (state, expires_ms);
CREATE TABLE schema_version (
    id INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE steps (
    job_id TEXT NOT NULL,
    step TEXT NOT NULL,
    state TEXT NOT NULL,
    result TEXT,
    PRIMARY KEY (job_id, step),
    FOREIGN KEY(job_id) REFERENCES jobs (job_id)
);
CREATE TABLE attempts (
    job_id TEXT NOT NULL,
    step TEXT NOT NULL,
    n INTEGER NOT NULL,
    state TEXT NOT NULL,
    started_ms BIGINT NOT NULL,
    finished_ms BIGINT,
    error_code TEXT,
    error_detail TEXT,
    cost_usd_micros BIGINT NOT NULL,
    PRIMARY KEY (job_id, step, n),
    FOREIGN KEY(job_id, step) REFERENCES steps (job_id, step)
);
INSERT INTO schema_version VALUES (1, 1);
INSERT INTO jobs VALUES ('job_first', 'photos', 'lead-1', 'roofers', '"The roof leaks. NUL \u0000, half a pair \ud800, \ufffe, ''; DROP TABLE jobs; -- \ud83d\udca7"', '["https://photos.example/1.jpg"]', 'req-1', 'failed', 1000, 3000, 1, 3000, 'auth', NULL, NULL, 'worker-1', 1);
INSERT INTO jobs VALUES ('job_again', 'photos', 'lead-1', 'roofers', '"The roof leaks. NUL \u0000, half a pair \ud800, \ufffe, ''; DROP TABLE jobs; -- \ud83d\udca7"', '["https://photos.example/1.jpg"]', 'req-1', 'queued', 4000, 4000, 0, NULL, NULL, NULL, 'job_first', NULL, 0);
INSERT INTO steps VALUES ('job_first', 'photo_analysis', 'waiting', NULL);
INSERT INTO steps VALUES ('job_first', 'scope', 'done', '{"items":["NUL \u0000, half a pair \ud800, \ufffe, ''; DROP TABLE jobs; -- \ud83d\udca7"]}');
INSERT INTO steps VALUES ('job_first', 'estimate', 'waiting', NULL);
INSERT INTO steps VALUES ('job_first', 'save', 'waiting', NULL);
INSERT INTO steps VALUES ('job_first', 'score', 'waiting', NULL);
INSERT INTO steps VALUES ('job_again', 'photo_analysis', 'waiting', NULL);
INSERT INTO steps VALUES ('job_again', 'scope', 'done', '{"items":["NUL \u0000, half a pair \ud800, \ufffe, ''; DROP TABLE jobs; -- \ud83d\udca7"]}');
INSERT INTO steps VALUES ('job_again', 'estimate', 'waiting', NULL);
INSERT INTO steps VALUES ('job_again', 'save', 'waiting', NULL);
INSERT INTO steps VALUES ('job_again', 'score', 'waiting', NULL);
INSERT INTO attempts VALUES ('job_first', 'scope', 1, 'done', 2000, 2500, NULL, NULL, 100);
INSERT INTO orders VALUES ('order-1', 'photos', 'submit-lead', 'req-1', 1000, NULL, 'accepted', 201, 'lead-1', 'job_first');
INSERT INTO orders VALUES ('order-2', 'photos', 'submit-lead', 'req-2', 2000, '{"text":"NUL \u0000, half a pair \ud800, \ufffe, ''; DROP TABLE jobs; -- \ud83d\udca7","n":2}', 'pending', NULL, NULL, NULL);
INSERT INTO orders VALUES ('order-3', 'photos', 'submit-lead', 'req-3', 2500, '{"text":"NUL \u0000, half a pair \ud800, \ufffe, ''; DROP TABLE jobs; -- \ud83d\udca7","n":3}', 'unreadable', 201, NULL, NULL);
INSERT INTO calls VALUES ('call-1', 'job_first', 'lead-1', 'roofers', 'scope', 1, 1, 'claude-haiku-5-5', 1000, 20, 'ok', 200, 'req_1', 10, 5, 2, 1, 100, '2026-11-01', '2026-11-24');
INSERT INTO accounts VALUES ('day:2026-11-24', 'day', 1000000, 9000000, 100, 0);
