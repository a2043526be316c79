-- The triggers: what they do, and the functions that attach them to the application's tables.
--
-- Plain SQL, for psql or for `paidwatch install`, which runs this file after the migrations; `paidwatch install --print`
-- shows the whole installation in order. Nothing here changes a row of the application.
--
-- In the application's own transaction a trigger writes one row into paidwatch.inbox. It rings (NOTIFY) only if the daemon
-- is asleep, because a transaction that ran NOTIFY takes a cluster-wide lock at commit and spoils group commit.
--
--   * The daemon, asleep, holds the advisory lock "bell" exclusively. A writer that cannot share it rings.
--   * A writer that can share it holds it to the end of its transaction: "the daemon is awake, or absent, and will look
--     after I have committed". No writer ever waits.
--   * Whatever goes wrong inside is a WARNING. The payment commits; reconciliation finds it later.
--   * Where the server allows prepared transactions the trigger never rings: PREPARE TRANSACTION fails after NOTIFY. The
--     daemon then looks by itself every few seconds. The setting [database] two_phase = "never" in the configuration
--     declares that the application does not use them.

-- The bell. One key, known here and nowhere else.
CREATE OR REPLACE FUNCTION paidwatch.bell() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 8097873591115412579';

-- The lock of the one daemon that leads.
CREATE OR REPLACE FUNCTION paidwatch.leadership() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 8097873591115412580';

-- The lock under which activations are decided, one at a time.
CREATE OR REPLACE FUNCTION paidwatch.activations() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 8097873591115412581';

-- Shared by whoever looks on behalf of customers that wait; while nobody does, nobody is told.
CREATE OR REPLACE FUNCTION paidwatch.customers() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 8097873591115412582';

-- A trigger function. `noting` is the row of the inbox: an expression list for (kind, payment_id, user_id, ref). `passing` is a
-- condition: rows for which it is true are passed over. It costs less here than in WHEN, which every statement parses anew.
-- The common way through has few and small expressions, because each is set up anew in each transaction.
CREATE OR REPLACE FUNCTION paidwatch.define_trigger_function(
    function_name text, noting text, rings boolean, passing text DEFAULT ''
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $define$
BEGIN
    EXECUTE format($body$
        CREATE OR REPLACE FUNCTION paidwatch.%1$I() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $trigger$
        BEGIN
            %5$s
            INSERT INTO paidwatch.inbox (txid, at, kind, payment_id, user_id, ref)
            VALUES (pg_current_xact_id(), clock_timestamp(), %2$s);
            IF NOT pg_try_advisory_xact_lock_shared(%3$s) THEN
                IF %4$s AND pg_notification_queue_usage() < 0.5 THEN
                    PERFORM pg_notify('paidwatch', '');
                END IF;
            END IF;
            RETURN NULL;
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'paidwatch could not note a change of %% (%%: %%); the change itself is not affected',
                TG_RELID::regclass, SQLSTATE, SQLERRM;
            RETURN NULL;
        END $trigger$
        $body$,
        function_name, noting, paidwatch.bell(),
        CASE WHEN rings THEN 'true' ELSE $$current_setting('max_prepared_transactions') = '0'$$ END,
        CASE WHEN passing = '' THEN '' ELSE format('IF %s THEN RETURN NULL; END IF;', passing) END);
    EXECUTE format('REVOKE ALL ON FUNCTION paidwatch.%I() FROM PUBLIC', function_name);
END $define$;

-- Creates one trigger unless it is there exactly so already: CREATE TRIGGER locks out writers for a moment.
CREATE OR REPLACE FUNCTION paidwatch.define_trigger(tab regclass, trigger_name text, events text, condition text, function_name text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $define$
DECLARE
    wanted text := format('AFTER %s ON %s FOR EACH ROW %s EXECUTE FUNCTION paidwatch.%I()', events, tab,
        CASE WHEN condition = '' THEN '' ELSE 'WHEN (' || condition || ')' END, function_name);
    present text;
    present_state "char";
BEGIN
    SELECT obj_description(t.oid, 'pg_trigger'), t.tgenabled INTO present, present_state
    FROM pg_trigger t WHERE t.tgrelid = tab AND t.tgname = trigger_name;
    IF present = md5(wanted) AND present_state = 'O' THEN
        RETURN;
    END IF;
    EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', trigger_name, tab);
    EXECUTE format('CREATE TRIGGER %I %s', trigger_name, wanted);
    EXECUTE format('COMMENT ON TRIGGER %I ON %s IS %L', trigger_name, tab, md5(wanted));
END $define$;

-- "any of these columns changed", over the columns that exist.
CREATE OR REPLACE FUNCTION paidwatch.changed(tab regclass, columns text[]) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(string_agg(
        CASE WHEN paidwatch.column_type(tab, c) IN ('json'::regtype, 'xml')
             THEN format('OLD.%1$I::text IS DISTINCT FROM NEW.%1$I::text', c)
             ELSE format('OLD.%1$I IS DISTINCT FROM NEW.%1$I', c) END, ' OR ' ORDER BY n), 'false')
    FROM unnest(columns) WITH ORDINALITY AS given (c, n)
    WHERE paidwatch.column_type(tab, c) IS NOT NULL
$$;

-- Payments entering, moving within and leaving the paid set, and reversals. `watched` are the columns whose change matters
-- while a payment is paid (plan, user, amounts).
CREATE OR REPLACE FUNCTION paidwatch.watch_payments(
    tab regclass, id text, user_id text, status text, watched text[], paid text[], reversed text[], rings boolean
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    words text[] := paid || reversed;
    user_of text := CASE WHEN paidwatch.column_type(tab, user_id) IS NULL THEN 'NULL' ELSE '%1$s.' || quote_ident(user_id) END;
BEGIN
    PERFORM paidwatch.define_trigger_function('on_payment', format(
        $expr$CASE WHEN TG_OP = 'DELETE' THEN 'D' WHEN (NEW.%1$I)::text = ANY (%2$L::text[]) THEN 'R' ELSE 'P' END::"char",
              CASE WHEN TG_OP = 'DELETE' THEN OLD.%3$I ELSE NEW.%3$I END,
              CASE WHEN TG_OP = 'DELETE' THEN %4$s ELSE %5$s END, NULL$expr$,
        status, reversed, id, format(user_of, 'OLD'), format(user_of, 'NEW')), rings);
    PERFORM paidwatch.define_trigger(tab, 'paidwatch_payment_inserted', 'INSERT',
        format('(NEW.%I)::text = ANY (%L::text[])', status, words), 'on_payment');
    PERFORM paidwatch.define_trigger(tab, 'paidwatch_payment_deleted', 'DELETE',
        format('(OLD.%I)::text = ANY (%L::text[])', status, words), 'on_payment');
    PERFORM paidwatch.define_trigger_function('on_payment_update', format(
        $expr$CASE WHEN (NEW.%1$I)::text = ANY (%2$L::text[]) THEN 'R'
              WHEN (NEW.%1$I)::text = ANY (%3$L::text[]) THEN CASE WHEN (OLD.%1$I)::text = ANY (%3$L::text[]) THEN 'M' ELSE 'P' END
              ELSE 'L' END::"char", NEW.%4$I, %5$s, NULL$expr$,
        status, reversed, paid, id, format(user_of, 'NEW')), rings,
        format($expr$((NEW.%1$I)::text = ANY (%2$L::text[]) OR (OLD.%1$I)::text = ANY (%2$L::text[])) IS NOT TRUE OR NOT (%3$s)$expr$,
            status, words, paidwatch.changed(tab, status || (user_id || watched))));
    PERFORM paidwatch.define_trigger(tab, 'paidwatch_payment_updated', 'UPDATE', '', 'on_payment_update');
END $$;

-- A user's access: status, tier, paid-until, ban; and the user's end.
CREATE OR REPLACE FUNCTION paidwatch.watch_users(tab regclass, id text, watched text[], rings boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM paidwatch.define_trigger_function('on_user', format(
        $expr$'U'::"char", NULL, CASE WHEN TG_OP = 'DELETE' THEN OLD.%1$I ELSE NEW.%1$I END, NULL$expr$, id), rings,
        format($expr$TG_OP = 'UPDATE' AND NOT (%s)$expr$, paidwatch.changed(tab, watched)));
    PERFORM paidwatch.define_trigger(tab, 'paidwatch_user_updated', 'UPDATE', '', 'on_user');
    PERFORM paidwatch.define_trigger(tab, 'paidwatch_user_deleted', 'DELETE', '', 'on_user');
END $$;

-- Events that say a user was activated, that this failed, or that a person acted.
CREATE OR REPLACE FUNCTION paidwatch.watch_events(tab regclass, id text, user_id text, type text, words text[], rings boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM paidwatch.define_trigger_function('on_event', format(
        $expr$'E'::"char", NULL, NEW.%1$I, NEW.%2$I::text$expr$, user_id, id), rings);
    PERFORM paidwatch.define_trigger(tab, 'paidwatch_event_inserted', 'INSERT',
        format('(NEW.%I)::text = ANY (%L::text[])', type, words), 'on_event');
END $$;

-- Every row of the webhook log as it comes, because any of them may speak of money; and rows whose outcome or signature changes
-- later. `valid` may be missing in older forms of the table. What is in a row is read later, not here.
CREATE OR REPLACE FUNCTION paidwatch.watch_webhooks(
    tab regclass, id text, user_id text, status text, valid text, rings boolean
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    of_user text := CASE WHEN paidwatch.column_type(tab, user_id) IS NULL THEN 'NULL' ELSE format('NEW.%I', user_id) END;
BEGIN
    PERFORM paidwatch.define_trigger_function('on_webhook', format(
        $expr$'W'::"char", NULL, %1$s, NEW.%2$I::text$expr$, of_user, id), rings);
    PERFORM paidwatch.define_trigger(tab, 'paidwatch_webhook_inserted', 'INSERT', '', 'on_webhook');
    PERFORM paidwatch.define_trigger(tab, 'paidwatch_webhook_updated', 'UPDATE',
        paidwatch.changed(tab, ARRAY[status, valid]), 'on_webhook');
END $$;
DROP FUNCTION IF EXISTS paidwatch.watch_webhooks(regclass, text, text, text, text, text[], boolean);

-- Takes every trigger of paidwatch off a table.
CREATE OR REPLACE FUNCTION paidwatch.unwatch(tab regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = tab AND NOT tgisinternal AND tgname LIKE 'paidwatch\_%' LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', name, tab);
    END LOOP;
END $$;
