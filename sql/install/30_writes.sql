-- The writes into the application's tables, for whatever columns it has, and what keeps audit and ledger as they were written.
-- Owned by the installing role; the runtime role may execute the writes and nothing else (see 40_attach.sql).

-- The columns of a user that an activation may write: canonical name, column.
CREATE OR REPLACE FUNCTION paidwatch.writable(m json) RETURNS TABLE (field text, col text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE f WHEN 'plan' THEN 'plan_id' ELSE f END, m ->> f
    FROM unnest(ARRAY['status', 'tier', 'plan', 'paid_until', 'revoked_at', 'last_paid_at', 'touched_at']) AS f
    UNION ALL SELECT 'paid_until', c FROM json_array_elements_text(coalesce(m -> 'also_paid_until', '[]')) AS c
$$;

-- Those of them that there are and that are not computed by the database; each column once, with a type that a cast may name.
CREATE OR REPLACE FUNCTION paidwatch.writable_columns(tab regclass, m json) RETURNS TABLE (field text, col text, sql_type text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT ON (w.col) w.field, w.col, CASE a.atttypid WHEN 'bpchar'::regtype THEN 'bpchar' ELSE a.atttypid::regtype::text END
    FROM paidwatch.writable(m) WITH ORDINALITY AS w (field, col, n)
    JOIN pg_attribute a ON a.attrelid = tab AND a.attname = w.col AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    ORDER BY w.col, w.n
$$;

-- Reads what an activation may write, as JSON by column; locks the row. NULL: no such user. A row that the application keeps
-- locked is not waited for: the activation is tried again later, and nothing else waits meanwhile. NO KEY: payments of the user
-- may be inserted at the same time.
CREATE OR REPLACE FUNCTION paidwatch.lock_subscriber(id paidwatch.user_key) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    m json := (SELECT mapping -> 'users' FROM paidwatch.installation);
    tab regclass := paidwatch.named_table('users', m ->> 'table');
    columns text;
    image jsonb;
BEGIN
    SELECT string_agg(format('%L, t.%I', w.col, w.col), ', ') INTO columns FROM paidwatch.writable_columns(tab, m) w;
    EXECUTE format('SELECT jsonb_build_object(%s) FROM %s t WHERE t.%I = $1 FOR NO KEY UPDATE', columns, tab, m ->> 'id') INTO image USING id;
    RETURN image;
END $$;

-- A column's value out of canonical ones ($2, as JSON), as an expression: naive columns get the configured zone.
CREATE OR REPLACE FUNCTION paidwatch.value_of(tab regclass, col text, field text, sql_type text, zone text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE paidwatch.column_type(tab, col)
        WHEN 'timestamp'::regtype THEN format('(($2 ->> %L)::timestamptz AT TIME ZONE %L)', field, zone)
        WHEN 'date'::regtype THEN format('(($2 ->> %L)::timestamptz AT TIME ZONE %L)::date', field, zone)
        ELSE format('($2 ->> %L)::%s', field, sql_type) END
$$;

-- What write_subscriber would be told and would leave, without writing or locking anything. No row: no such user.
CREATE OR REPLACE FUNCTION paidwatch.planned_subscriber(id paidwatch.user_key, changes jsonb) RETURNS TABLE (before jsonb, after jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    installed json := (SELECT mapping FROM paidwatch.installation);
    m json := installed -> 'users';
    tab regclass := paidwatch.named_table('users', m ->> 'table');
    present text;
    planned text;
    typed text;
BEGIN
    SELECT string_agg(format('%L, t.%I', w.col, w.col), ', '),
        string_agg(format('%L, %s', w.col, paidwatch.value_of(tab, w.col, w.field, w.sql_type, installed ->> 'time_zone')), ', ')
            FILTER (WHERE changes ? w.field),
        string_agg(format('%I %s', w.col,
            (SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a WHERE a.attrelid = tab AND a.attname = w.col)), ', ')
            FILTER (WHERE changes ? w.field)
    INTO present, planned, typed FROM paidwatch.writable_columns(tab, m) w;
    -- By the types' own input, as a column takes it: a cast would cut what is too long, where the write fails.
    RETURN QUERY EXECUTE format('SELECT jsonb_build_object(%s), (SELECT to_jsonb(v) FROM jsonb_to_record(jsonb_build_object(%s)) AS v (%s)) '
        'FROM %s t WHERE t.%I = $1', present, planned, typed, tab, m ->> 'id') USING id, changes;
END $$;

-- Writes canonical values ({"status": …, "paid_until": …}) into the columns that exist; naive columns get the configured zone.
-- Returns the columns written, as the row now has them; NULL where there is no such user.
CREATE OR REPLACE FUNCTION paidwatch.write_subscriber(id paidwatch.user_key, changes jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    installed json := (SELECT mapping FROM paidwatch.installation);
    m json := installed -> 'users';
    zone text := installed ->> 'time_zone';
    tab regclass := paidwatch.named_table('users', m ->> 'table');
    assignments text;
    columns text;
    image jsonb;
BEGIN
    SELECT string_agg(format('%I = %s', w.col, paidwatch.value_of(tab, w.col, w.field, w.sql_type, zone)), ', '),
           string_agg(format('%L, t.%I', w.col, w.col), ', ')
    INTO assignments, columns
    FROM paidwatch.writable_columns(tab, m) w WHERE changes ? w.field;
    EXECUTE format('UPDATE %s t SET %s WHERE t.%I = $1 RETURNING jsonb_build_object(%s)', tab, assignments, m ->> 'id', columns)
        INTO image USING id, changes;
    RETURN image;
END $$;

-- One value of an image, whether it has the application's column for it or the canonical name, as a shadow and a plan have.
CREATE OR REPLACE FUNCTION paidwatch.image_value(image jsonb, field text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(image ->> (i.mapping -> 'users' ->> field), image ->> field) FROM paidwatch.installation i
$$;

-- The same as a point in time; what has no zone is of the configured one. NULL also where the value is none.
CREATE OR REPLACE FUNCTION paidwatch.image_moment(image jsonb, field text) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    value text := paidwatch.image_value(image, field);
BEGIN
    RETURN CASE WHEN value ~ '[T ].*([+-][0-9]{2}(:?[0-9]{2})?|Z)$' THEN value::timestamptz
        ELSE value::timestamp AT TIME ZONE (SELECT i.mapping ->> 'time_zone' FROM paidwatch.installation i) END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;

-- How a user's row differs from an image (JSON by column), column by column and byte for byte. A column of the image that is
-- gone, that the database computes now, or that the mapping does not name any more, is shown as not writable.
CREATE OR REPLACE FUNCTION paidwatch.compare_subscriber(id paidwatch.user_key, image jsonb)
RETURNS TABLE (col text, ours text, present text, writable boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m json := (SELECT mapping -> 'users' FROM paidwatch.installation);
    tab regclass := paidwatch.named_table('users', m ->> 'table');
    typed text;
    differs boolean;
BEGIN
    FOR col, typed IN SELECT k.name, w.sql_type FROM jsonb_object_keys(image) AS k (name)
        LEFT JOIN paidwatch.writable_columns(tab, m) w ON w.col = k.name ORDER BY k.name LOOP
        writable := typed IS NOT NULL;
        ours := image ->> col;
        present := NULL;
        differs := true;
        IF writable THEN
            EXECUTE format('SELECT v.ours, v.present, v.ours IS DISTINCT FROM v.present FROM %1$s t '
                'CROSS JOIN LATERAL (SELECT (($2 ->> %2$L)::%3$s)::text AS ours, (t.%2$I)::text AS present) v WHERE t.%4$I = $1',
                tab, col, typed, m ->> 'id') INTO ours, present, differs USING id, image;
        END IF;
        IF differs IS NOT FALSE THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;

-- Puts back what an activation wrote: each column of `ours` gets its value in `former`, if the row still has all of `ours`, byte for
-- byte. Returns these columns as the row has them then; NULL where anything differs, and nothing is written.
CREATE OR REPLACE FUNCTION paidwatch.restore_subscriber(id paidwatch.user_key, ours jsonb, former jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    m json := (SELECT mapping -> 'users' FROM paidwatch.installation);
    tab regclass := paidwatch.named_table('users', m ->> 'table');
    assignments text;
    conditions text;
    columns text;
    usable integer;
    image jsonb;
BEGIN
    SELECT string_agg(format('%1$I = ($3 ->> %1$L)::%2$s', w.col, w.sql_type), ', '),
        string_agg(format('(t.%1$I)::text IS NOT DISTINCT FROM (($2 ->> %1$L)::%2$s)::text', w.col, w.sql_type), ' AND '),
        string_agg(format('%1$L, t.%1$I', w.col), ', '), count(*)
    INTO assignments, conditions, columns, usable
    FROM paidwatch.writable_columns(tab, m) w WHERE ours ? w.col AND former ? w.col;
    IF usable = 0 OR usable <> (SELECT count(*) FROM jsonb_object_keys(ours)) THEN
        RETURN NULL;
    END IF;
    EXECUTE format('UPDATE %s t SET %s WHERE t.%I = $1 AND %s RETURNING jsonb_build_object(%s)', tab, assignments, m ->> 'id', conditions, columns)
        INTO image USING id, ours, former;
    RETURN image;
END $$;

-- Columns of the events table that must be supplied and that paidwatch has no value for.
CREATE OR REPLACE FUNCTION paidwatch.unsupplied_event_columns(m json) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}') FROM pg_attribute a
    WHERE a.attrelid = paidwatch.named_table('events', m ->> 'table') AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''
        AND a.attname NOT IN (coalesce(m ->> 'user', ''), coalesce(m ->> 'type', ''), coalesce(m ->> 'data', ''),
            coalesce(m ->> 'external_id', ''), coalesce(m ->> 'processed', ''))
        AND a.atttypid NOT IN ('timestamp'::regtype, 'timestamptz'::regtype, 'boolean'::regtype)
        AND NOT (a.attname = m ->> 'id' AND a.atttypid IN ('uuid'::regtype, 'text'::regtype, 'varchar'::regtype))
$$;

-- Inserts one event with every NOT NULL column supplied; returns its id, or NULL where the application has no events table.
CREATE OR REPLACE FUNCTION paidwatch.write_event(subscriber paidwatch.user_key, event_type text, event_data jsonb, external_id text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    installed json := (SELECT mapping FROM paidwatch.installation);
    m json := installed -> 'events';
    zone text := installed ->> 'time_zone';
    tab regclass := paidwatch.named_table('events', m ->> 'table');
    missing text[] := paidwatch.unsupplied_event_columns(m);
    columns text;
    vals text;
    id text;
BEGIN
    IF tab IS NULL THEN
        RETURN NULL;
    END IF;
    IF cardinality(missing) > 0 THEN
        RAISE EXCEPTION 'column % of % is NOT NULL without a default and paidwatch has no value for it', missing[1], tab
            USING ERRCODE = 'not_null_violation', HINT = 'Give the column a default, or map it in [events].';
    END IF;
    SELECT string_agg(format('%I', a.attname), ', ' ORDER BY a.attnum), string_agg(
        CASE WHEN a.attname = m ->> 'user' THEN '$1'
             WHEN a.attname = m ->> 'type' THEN format('$2::%s', a.atttypid::regtype)
             WHEN a.attname = m ->> 'data' THEN format('$3::text::%s', a.atttypid::regtype)
             WHEN a.attname = m ->> 'external_id' THEN '$4'
             WHEN a.attname = m ->> 'processed' THEN 'true'
             WHEN a.attname = m ->> 'id' THEN format('gen_random_uuid()::text::%s', a.atttypid::regtype)
             WHEN a.atttypid = 'timestamptz'::regtype THEN 'now()'
             WHEN a.atttypid = 'timestamp'::regtype THEN format('(now() AT TIME ZONE %L)', zone)
             ELSE 'false' END, ', ' ORDER BY a.attnum)
    INTO columns, vals
    FROM pg_attribute a
    WHERE a.attrelid = tab AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity = '' AND a.attgenerated = '' AND (
        a.attname IN (m ->> 'user', m ->> 'type', m ->> 'data', m ->> 'external_id', m ->> 'processed', m ->> 'created_at')
        OR a.attnotnull AND NOT a.atthasdef);
    EXECUTE format('INSERT INTO %s (%s) VALUES (%s) RETURNING (%I)::text', tab, columns, vals, m ->> 'id')
        INTO id USING subscriber, event_type, event_data, external_id;
    RETURN id;
END $$;
REVOKE ALL ON FUNCTION paidwatch.lock_subscriber(paidwatch.user_key), paidwatch.planned_subscriber(paidwatch.user_key, jsonb),
    paidwatch.write_subscriber(paidwatch.user_key, jsonb),
    paidwatch.write_event(paidwatch.user_key, text, jsonb, text), paidwatch.compare_subscriber(paidwatch.user_key, jsonb),
    paidwatch.restore_subscriber(paidwatch.user_key, jsonb, jsonb) FROM PUBLIC;

-- The audit only grows, whoever asks: also where the daemon runs as the owner of the table, who has every right on it.
CREATE OR REPLACE FUNCTION paidwatch.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% only grows: % is refused', TG_RELID::regclass, TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

-- What an activation that was done wrote, and why, stays in the ledger as it was written; it can only be undone, once. What is found out
-- about it later (a second activation, what became of a shadow) stands in other columns.
CREATE OR REPLACE FUNCTION paidwatch.keep_ledger() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.activation_id, NEW.payment_id, NEW.method, NEW.reference, NEW.names, NEW.user_id, NEW.strategy, NEW.actor, NEW.reason, NEW.guards, NEW.forced, NEW.planned,
            NEW.before, NEW.after, NEW.event_id, NEW.version)
        IS DISTINCT FROM (OLD.activation_id, OLD.payment_id, OLD.method, OLD.reference, OLD.names, OLD.user_id, OLD.strategy, OLD.actor, OLD.reason, OLD.guards, OLD.forced, OLD.planned,
            OLD.before, OLD.after, OLD.event_id, OLD.version)
        OR NEW.state <> OLD.state AND NOT (OLD.state = 'done' AND NEW.state = 'undone') THEN
        RAISE EXCEPTION 'activation % is %: what it wrote, and why, cannot be changed any more', OLD.activation_id, OLD.state
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'paidwatch.audit'::regclass AND tgname = 'only_grows') THEN
        CREATE TRIGGER only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON paidwatch.audit
            FOR EACH STATEMENT EXECUTE FUNCTION paidwatch.refuse_change();
    END IF;
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'paidwatch.activation'::regclass AND tgname = 'stays_written') THEN
        CREATE TRIGGER stays_written BEFORE UPDATE ON paidwatch.activation
            FOR EACH ROW WHEN (OLD.state IN ('done', 'undone')) EXECUTE FUNCTION paidwatch.keep_ledger();
    END IF;
END $do$;
