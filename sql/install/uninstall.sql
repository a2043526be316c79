-- Takes paidwatch out: triggers, schema, and a webhook log, or columns of one, that it made and nobody used. The application's
-- schema is afterwards what it was before.
BEGIN;
SET LOCAL lock_timeout = '3s';
SELECT paidwatch.detach();
SET LOCAL client_min_messages = warning;
DROP SCHEMA paidwatch CASCADE;
SET LOCAL client_min_messages = notice;
DO $$
DECLARE
    used boolean;
    col text;
BEGIN
    IF obj_description(to_regclass('public.webhook_logs'), 'pg_class') = 'made by paidwatch' THEN
        EXECUTE 'SELECT EXISTS (SELECT FROM public.webhook_logs)' INTO used;
        IF used THEN
            RAISE NOTICE 'public.webhook_logs was made by paidwatch and is kept, because it has rows; drop it yourself if you like';
        ELSE
            DROP TABLE public.webhook_logs;
        END IF;
    END IF;
    FOR col IN SELECT a.attname FROM pg_attribute a
        WHERE a.attrelid = to_regclass('public.webhook_logs') AND a.attnum > 0 AND NOT a.attisdropped
            AND col_description(a.attrelid, a.attnum) = 'made by paidwatch' LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM public.webhook_logs WHERE %I IS NOT NULL)', col) INTO used;
        IF used THEN
            RAISE NOTICE 'public.webhook_logs.% was made by paidwatch and is kept, because it has values; drop it yourself if you like', col;
        ELSE
            EXECUTE format('ALTER TABLE public.webhook_logs DROP COLUMN %I', col);
        END IF;
    END LOOP;
END $$;
COMMIT;
