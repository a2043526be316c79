-- The log of the providers' webhooks: `paidwatch install --create-tables`. Made where there is none; where there is one, what its
-- later form has besides is added as columns that may be NULL. Fits the application's own INSERTs, in its first form (seven columns)
-- and in its later one. Says what it did; run again, it does nothing.
BEGIN;
SET LOCAL lock_timeout = '3s';
SET LOCAL client_min_messages = notice;
SELECT pg_advisory_xact_lock(8097873591115412587);
DO $$
DECLARE
    log regclass := to_regclass('public.webhook_logs');
    users regclass := to_regclass('public.users');
    user_type text := 'integer';
    refers boolean := false;
    wanted record;
    added text[] := '{}';
BEGIN
    SELECT format_type(a.atttypid, a.atttypmod), EXISTS (
            SELECT FROM pg_index i WHERE i.indrelid = users AND i.indisunique AND i.indpred IS NULL AND i.indkey::text = a.attnum::text)
        INTO user_type, refers
    FROM pg_attribute a WHERE a.attrelid = users AND a.attname = 'id' AND NOT a.attisdropped;
    user_type := coalesce(user_type, 'integer');
    IF log IS NULL THEN
        EXECUTE format($table$
            CREATE TABLE public.webhook_logs (
                id serial PRIMARY KEY,
                payment_method varchar(50) NOT NULL,
                webhook_type varchar(50),
                webhook_data jsonb NOT NULL,
                headers jsonb,
                signature varchar(500),
                signature_valid boolean,
                processing_status varchar(50) NOT NULL DEFAULT 'received',
                error_message text,
                user_id %s%s,
                payment_id varchar(255),
                plan_id varchar(50),
                created_at timestamp DEFAULT (now() AT TIME ZONE 'UTC'),
                processed_at timestamp
            )$table$, user_type, CASE WHEN refers THEN ' REFERENCES public.users (id) ON DELETE SET NULL' ELSE '' END);
        CREATE INDEX ix_webhook_logs_created_at ON public.webhook_logs (created_at);
        CREATE INDEX ix_webhook_logs_payment_method ON public.webhook_logs (payment_method);
        CREATE INDEX ix_webhook_logs_processing_status ON public.webhook_logs (processing_status);
        COMMENT ON TABLE public.webhook_logs IS 'made by paidwatch';
        RAISE NOTICE 'created table public.webhook_logs';
        RETURN;
    END IF;
    IF (SELECT relkind NOT IN ('r', 'p') FROM pg_class WHERE oid = log) THEN
        RAISE NOTICE 'public.webhook_logs is no table, and was left as it is';
        RETURN;
    END IF;
    FOR wanted IN
        SELECT w.name, w.type FROM (VALUES ('webhook_type', 'varchar(50)'), ('headers', 'jsonb'), ('signature', 'varchar(500)'),
            ('signature_valid', 'boolean'), ('error_message', 'text'), ('user_id', user_type), ('payment_id', 'varchar(255)'),
            ('plan_id', 'varchar(50)'), ('processed_at', 'timestamp')) AS w (name, type)
        WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = log AND a.attname = w.name AND NOT a.attisdropped)
    LOOP
        EXECUTE format('ALTER TABLE public.webhook_logs ADD COLUMN %I %s', wanted.name, wanted.type);
        EXECUTE format('COMMENT ON COLUMN public.webhook_logs.%I IS %L', wanted.name, 'made by paidwatch');
        IF wanted.name = 'user_id' AND refers THEN
            -- Not looked at for the rows there are: all of them are NULL, and the table may be large.
            ALTER TABLE public.webhook_logs ADD FOREIGN KEY (user_id) REFERENCES public.users (id) ON DELETE SET NULL NOT VALID;
        END IF;
        added := added || wanted.name::text;
    END LOOP;
    IF cardinality(added) > 0 THEN
        RAISE NOTICE 'added to table public.webhook_logs, each of them may be NULL: %', array_to_string(added, ', ');
    END IF;
END $$;
COMMIT;
