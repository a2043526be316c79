-- The log of the providers' webhooks, for applications that do not keep one: `paidwatch install --create-tables`.
-- Fits the application's own INSERTs, in its first form (seven columns) and in its later one.
BEGIN;
SET LOCAL lock_timeout = '3s';
SET LOCAL client_min_messages = warning;
DO $$
DECLARE
    users regclass := to_regclass('public.users');
    user_type text;
BEGIN
    IF to_regclass('public.webhook_logs') IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT format_type(atttypid, atttypmod) INTO user_type FROM pg_attribute WHERE attrelid = users AND attname = 'id' AND NOT attisdropped;
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
        payment_id varchar(255),
        plan_id varchar(50),
        created_at timestamp DEFAULT (now() AT TIME ZONE 'UTC'),
        processed_at timestamp
    );
    EXECUTE format('ALTER TABLE public.webhook_logs ADD COLUMN user_id %s', coalesce(user_type, 'integer'));
    IF user_type IS NOT NULL THEN
        ALTER TABLE public.webhook_logs ADD FOREIGN KEY (user_id) REFERENCES public.users (id) ON DELETE SET NULL;
    END IF;
    CREATE INDEX ix_webhook_logs_created_at ON public.webhook_logs (created_at);
    CREATE INDEX ix_webhook_logs_payment_method ON public.webhook_logs (payment_method);
    CREATE INDEX ix_webhook_logs_processing_status ON public.webhook_logs (processing_status);
    COMMENT ON TABLE public.webhook_logs IS 'made by paidwatch';
END $$;
COMMIT;
