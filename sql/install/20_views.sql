-- Canonical views: the application's tables under the names and words that every statement of paidwatch uses.
-- The runtime role reads these and nothing else of the application; password hashes and tokens are not in them.

-- A column as text-producing SQL, or a typed NULL where the application has none.
CREATE OR REPLACE FUNCTION paidwatch.field(tab regclass, col text, wanted text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN paidwatch.column_type(tab, col) IS NULL THEN format('NULL::%s', wanted)
                WHEN wanted = '' THEN format('t.%I', col)
                ELSE format('(t.%I)::%s', col, wanted) END
$$;

-- A point in time as timestamptz: naive columns are read in the configured zone.
CREATE OR REPLACE FUNCTION paidwatch.instant(tab regclass, col text, zone text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE paidwatch.column_type(tab, col)
        WHEN 'timestamptz'::regtype THEN format('t.%I', col)
        WHEN 'timestamp'::regtype THEN format('(t.%I AT TIME ZONE %L)', col, zone)
        WHEN 'date'::regtype THEN format('((t.%I)::timestamp AT TIME ZONE %L)', col, zone)
        ELSE 'NULL::timestamptz' END
$$;

-- JSON words as a text array.
CREATE OR REPLACE FUNCTION paidwatch.words(list json) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(w ORDER BY n), '{}') FROM json_array_elements_text(coalesce(list, '[]')) WITH ORDINALITY AS t (w, n)
$$;

-- "status is one of these words", in a form that an index predicate may use: enum columns are compared as enums.
CREATE OR REPLACE FUNCTION paidwatch.is_word(tab regclass, col text, list text[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    type regtype := paidwatch.column_type(tab, col);
BEGIN
    IF EXISTS (SELECT FROM pg_type WHERE oid = type AND typtype = 'e') THEN
        RETURN format('t.%I = ANY (%L::%s[])', col,
            ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = type AND enumlabel = ANY (list)), type);
    END IF;
    RETURN format('(t.%I)::text = ANY (%L::text[])', col, list);
END $$;

-- When a payment became paid, as far as the row itself tells.
CREATE OR REPLACE FUNCTION paidwatch.settled_expression(tab regclass, columns text[], zone text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce('COALESCE(' || string_agg(paidwatch.instant(tab, c, zone), ', ' ORDER BY n) || ')', 'NULL::timestamptz')
    FROM unnest(columns) WITH ORDINALITY AS given (c, n)
    WHERE paidwatch.instant(tab, c, zone) NOT LIKE 'NULL%'
$$;

-- {"USD": "amount_usd", …} as CASE: the first currency with an amount counts.
CREATE OR REPLACE FUNCTION paidwatch.money_case(tab regclass, columns json, want_currency boolean) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce('CASE ' || string_agg(format('WHEN t.%I > 0 THEN %s', value,
            CASE WHEN want_currency THEN quote_literal(key) ELSE format('(t.%I)::numeric', value) END), ' ' ORDER BY n)
            || CASE WHEN want_currency THEN '' ELSE format(' ELSE (t.%I)::numeric', min(value)) END || ' END',
        CASE WHEN want_currency THEN 'NULL::text' ELSE 'NULL::numeric' END)
    FROM json_each_text(columns) WITH ORDINALITY AS given (key, value, n)
    WHERE paidwatch.column_type(tab, value) IS NOT NULL
$$;

-- The references that an event's data names, whether it is json, jsonb, text, or JSON encoded twice. Never fails.
CREATE OR REPLACE FUNCTION paidwatch.event_data(data text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    value jsonb := data::jsonb;
BEGIN
    IF jsonb_typeof(value) = 'string' THEN
        value := (value #>> '{}')::jsonb;
    END IF;
    RETURN CASE WHEN jsonb_typeof(value) = 'object' THEN value ELSE '{}' END;
EXCEPTION WHEN OTHERS THEN
    RETURN '{}';
END $$;

-- Replaces a view, also where its columns changed; keeps it untouched where it is the same.
CREATE OR REPLACE FUNCTION paidwatch.define_view(name text, body text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF obj_description(to_regclass('paidwatch.' || name), 'pg_class') = md5(body) THEN
        RETURN;
    END IF;
    EXECUTE format('DROP VIEW IF EXISTS paidwatch.%I', name);
    EXECUTE format('CREATE VIEW paidwatch.%I AS %s', name, body);
    EXECUTE format('COMMENT ON VIEW paidwatch.%I IS %L', name, md5(body));
END $$;

CREATE OR REPLACE FUNCTION paidwatch.define_payments(m json, zone text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tab regclass := paidwatch.named_table('payments', m ->> 'table');
    status text := m ->> 'status';
    paid text := paidwatch.is_word(tab, status, paidwatch.words(m -> 'paid'));
BEGIN
    PERFORM paidwatch.required_type('payments', 'status', tab, status);
    PERFORM paidwatch.define_view('payments', format(
        'SELECT t.%I AS payment_id, %s AS user_id, %s AS plan_id, %s AS amount, %s AS currency, %s AS method, %s AS reference, '
        '(t.%I)::text AS status, %s AS paid, '
        'CASE WHEN %s THEN ''paid'' WHEN %s THEN ''reversed'' WHEN %s THEN ''failed'' WHEN %s THEN ''pending'' ELSE ''unknown'' END AS phase, '
        '%s AS created_at, %s AS settled_at FROM %s t',
        m ->> 'id',
        CASE WHEN paidwatch.column_type(tab, m ->> 'user') IS NULL THEN 'NULL::paidwatch.user_key' ELSE format('t.%I', m ->> 'user') END,
        paidwatch.field(tab, m ->> 'plan', 'text'),
        paidwatch.money_case(tab, m -> 'amounts', false), paidwatch.money_case(tab, m -> 'amounts', true),
        paidwatch.field(tab, m ->> 'method', 'text'), paidwatch.field(tab, m ->> 'reference', 'text'),
        status, paid, paid,
        paidwatch.is_word(tab, status, paidwatch.words(m -> 'reversed')),
        paidwatch.is_word(tab, status, paidwatch.words(m -> 'failed')),
        paidwatch.is_word(tab, status, paidwatch.words(m -> 'pending')),
        paidwatch.instant(tab, m ->> 'created_at', zone),
        paidwatch.settled_expression(tab, ARRAY[m ->> 'completed_at', m ->> 'updated_at', m ->> 'created_at'], zone),
        tab));
END $$;

CREATE OR REPLACE FUNCTION paidwatch.define_subscribers(m json, tiers text[], zone text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tab regclass := paidwatch.named_table('users', m ->> 'table');
    has_tier boolean := paidwatch.column_type(tab, m ->> 'tier') IS NOT NULL;
    tier text := paidwatch.field(tab, m ->> 'tier', 'text');
BEGIN
    IF NOT has_tier AND NOT EXISTS (SELECT FROM unnest(ARRAY[m ->> 'status', m ->> 'paid_until', m ->> 'revoked_at']) AS c
                                    WHERE paidwatch.column_type(tab, c) IS NOT NULL) THEN
        RAISE EXCEPTION 'nothing in % tells whether a user has access', tab
            USING ERRCODE = 'undefined_column', HINT = 'Name at least one of status, tier, paid_until and revoked_at in [users].';
    END IF;
    PERFORM paidwatch.define_view('subscribers', format(
        'SELECT t.%I AS user_id, %s AS label, %s AS name, %s AS enabled, %s AS admin, %s AS status, %s AS status_active, '
        '%s AS tier, %s AS tier_rank, %L::boolean AS tier_watched, %s AS plan_id, %s AS paid_until, %L::boolean AS paid_until_watched, '
        '%s AS revoked_at, %s AS last_paid_at FROM %s t',
        m ->> 'id', paidwatch.field(tab, m ->> 'label', 'text'), paidwatch.field(tab, m ->> 'name', 'text'),
        CASE WHEN paidwatch.column_type(tab, m ->> 'enabled') IS NULL THEN 'true' ELSE format('coalesce(t.%I, true)', m ->> 'enabled') END,
        CASE WHEN paidwatch.column_type(tab, m ->> 'admin') IS NULL THEN 'false' ELSE format('coalesce(t.%I, false)', m ->> 'admin') END,
        paidwatch.field(tab, m ->> 'status', 'text'),
        CASE WHEN paidwatch.column_type(tab, m ->> 'status') IS NULL THEN 'NULL::boolean'
             ELSE format('coalesce(%s, false)', paidwatch.is_word(tab, m ->> 'status', paidwatch.words(m -> 'active'))) END,
        tier,
        CASE WHEN has_tier THEN format('CASE WHEN %s IS NULL THEN 0 ELSE array_position(%L::text[], %s) - 1 END', tier, tiers, tier)
             ELSE 'NULL::integer' END,
        has_tier,
        paidwatch.field(tab, m ->> 'plan', 'text'),
        paidwatch.instant(tab, m ->> 'paid_until', zone),
        paidwatch.instant(tab, m ->> 'paid_until', zone) NOT LIKE 'NULL%',
        paidwatch.instant(tab, m ->> 'revoked_at', zone), paidwatch.instant(tab, m ->> 'last_paid_at', zone), tab));
END $$;

CREATE OR REPLACE FUNCTION paidwatch.define_plans(m json) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tab regclass := paidwatch.named_table('plans', m ->> 'table');
    tiers text[] := paidwatch.words(m -> 'order');
    free text[] := paidwatch.words(m -> 'free');
    days integer := (m ->> 'default_days')::integer;
    prices text;
BEGIN
    IF tab IS NULL OR paidwatch.column_type(tab, m ->> 'id') IS NULL THEN
        PERFORM paidwatch.define_view('plans', format(
            'SELECT p AS plan_id, p AS name, ''{}''::jsonb AS prices, make_interval(days => %s) AS duration, (n - 1)::integer AS rank, '
            'p = ANY (%L::text[]) AS free FROM unnest(%L::text[]) WITH ORDINALITY AS t (p, n)', days, free, tiers));
        RETURN;
    END IF;
    SELECT 'jsonb_build_object(' || coalesce(string_agg(format('%L, t.%I', key, value), ', ' ORDER BY n), '') || ')' INTO prices
    FROM json_each_text(m -> 'prices') WITH ORDINALITY AS given (key, value, n) WHERE paidwatch.column_type(tab, value) IS NOT NULL;
    PERFORM paidwatch.define_view('plans', format(
        'SELECT (t.%1$I)::text AS plan_id, %2$s AS name, %3$s AS prices, make_interval(days => coalesce(%4$s, %5$s)) AS duration, '
        'array_position(%6$L::text[], (t.%1$I)::text) - 1 AS rank, (t.%1$I)::text = ANY (%7$L::text[]) AS free FROM %8$s t '
        -- A plan that the order knows and the table does not: of unknown price, so nothing is granted for it by itself.
        'UNION ALL SELECT p, p, ''{}''::jsonb, make_interval(days => %5$s), (n - 1)::integer, p = ANY (%7$L::text[]) '
        'FROM unnest(%6$L::text[]) WITH ORDINALITY AS known (p, n) WHERE NOT EXISTS (SELECT FROM %8$s t WHERE (t.%1$I)::text = p)',
        m ->> 'id', paidwatch.field(tab, m ->> 'name', 'text'), prices, paidwatch.field(tab, m ->> 'days', 'integer'), days, tiers, free, tab));
END $$;

CREATE OR REPLACE FUNCTION paidwatch.define_events(m json, zone text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tab regclass := paidwatch.named_table('events', m ->> 'table');
BEGIN
    IF tab IS NULL OR paidwatch.column_type(tab, m ->> 'user') IS NULL OR paidwatch.column_type(tab, m ->> 'type') IS NULL THEN
        PERFORM paidwatch.define_view('events',
            'SELECT NULL::text AS event_id, NULL::paidwatch.user_key AS user_id, NULL::text AS type, NULL::text AS class, '
            'NULL::text AS data, NULL::timestamptz AS created_at WHERE false');
        RETURN;
    END IF;
    PERFORM paidwatch.define_view('events', format(
        'SELECT (t.%1$I)::text AS event_id, t.%2$I AS user_id, (t.%3$I)::text AS type, '
        'CASE WHEN (t.%3$I)::text = ANY (%4$L::text[]) THEN ''activated'' WHEN (t.%3$I)::text = ANY (%5$L::text[]) THEN ''failed'' '
        'WHEN (t.%3$I)::text = ANY (%6$L::text[]) THEN ''deliberate'' END AS class, %7$s AS data, %8$s AS created_at FROM %9$s t',
        m ->> 'id', m ->> 'user', m ->> 'type', paidwatch.words(m -> 'activated'), paidwatch.words(m -> 'failed'),
        paidwatch.words(m -> 'deliberate'), paidwatch.field(tab, m ->> 'data', 'text'), paidwatch.instant(tab, m ->> 'created_at', zone), tab));
END $$;

CREATE OR REPLACE FUNCTION paidwatch.define_webhooks(m json, zone text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tab regclass := paidwatch.named_table('webhooks', m ->> 'table');
    key regtype := paidwatch.column_type(tab, m ->> 'id');
    arrived regtype := paidwatch.column_type(tab, m ->> 'created_at');
BEGIN
    IF key IS NULL OR arrived IS NULL OR paidwatch.column_type(tab, m ->> 'status') IS NULL THEN
        PERFORM paidwatch.define_view('webhooks',
            'SELECT NULL::text AS webhook_id, NULL::text AS row_key, NULL::text AS method, NULL::text AS reference, '
            'NULL::paidwatch.user_key AS user_id, NULL::text AS status, NULL::boolean AS failed, NULL::text AS error, '
            'NULL::boolean AS valid, NULL::text AS data, NULL::timestamptz AS arrived, NULL::timestamptz AS created_at WHERE false');
        key := 'text'::regtype;
        arrived := 'timestamptz'::regtype;
    ELSE
        PERFORM paidwatch.define_view('webhooks', format(
            'SELECT (t.%1$I)::text AS webhook_id, t.%1$I AS row_key, %2$s AS method, %3$s AS reference, %4$s AS user_id, '
            '(t.%5$I)::text AS status, coalesce((t.%5$I)::text = ANY (%6$L::text[]), false) AS failed, '
            '%7$s AS error, %8$s AS valid, %9$s AS data, t.%10$I AS arrived, %11$s AS created_at FROM %12$s t',
            m ->> 'id', paidwatch.field(tab, m ->> 'method', 'text'), paidwatch.field(tab, m ->> 'payment', 'text'),
            CASE WHEN paidwatch.column_type(tab, m ->> 'user') IS NULL THEN 'NULL::paidwatch.user_key' ELSE format('t.%I', m ->> 'user') END,
            m ->> 'status', paidwatch.words(m -> 'failed'),
            paidwatch.field(tab, m ->> 'error', 'text'), paidwatch.field(tab, m ->> 'valid', 'boolean'),
            paidwatch.field(tab, m ->> 'data', 'text'), m ->> 'created_at', paidwatch.instant(tab, m ->> 'created_at', zone), tab));
    END IF;
    -- Through the view, so with the rights of whoever asks; by the columns themselves, so that their indexes serve.
    EXECUTE format($fn$
        CREATE OR REPLACE FUNCTION paidwatch.webhook_rows(ids text[])
        RETURNS TABLE (webhook_id text, method text, reference text, user_id paidwatch.user_key, status text, failed boolean, error text,
            valid boolean, data text, created_at timestamptz)
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS
        $q$ SELECT w.webhook_id, w.method, w.reference, w.user_id, w.status, w.failed, w.error, w.valid, w.data, w.created_at
            FROM paidwatch.webhooks w WHERE w.row_key = ANY (ids::%s[]) $q$
        $fn$, key);
    EXECUTE format($fn$
        CREATE OR REPLACE FUNCTION paidwatch.webhooks_since(since timestamptz)
        RETURNS TABLE (webhook_id text, failed boolean, valid boolean, created_at timestamptz)
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS
        $q$ SELECT w.webhook_id, w.failed, w.valid, w.created_at FROM paidwatch.webhooks w WHERE w.arrived >= %s $q$
        $fn$, CASE arrived WHEN 'timestamp'::regtype THEN format('(since AT TIME ZONE %L)', zone)
                           WHEN 'date'::regtype THEN format('(since AT TIME ZONE %L)::date', zone) ELSE 'since' END);
END $$;

-- A key of the application's users, or NULL where the text cannot be one.
CREATE OR REPLACE FUNCTION paidwatch.user_of(name text) RETURNS paidwatch.user_key
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN name::paidwatch.user_key;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- The index that `check` and reconciliation need: recent paid payments. NULL where the table has no time to order by, or where
-- the index is there. Made with CONCURRENTLY, so that writers are not held up; a build that was interrupted is made anew.
CREATE OR REPLACE FUNCTION paidwatch.index_statement(mapping json) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m json := mapping -> 'payments';
    tab regclass := paidwatch.named_table('payments', m ->> 'table');
    settled text := replace(paidwatch.settled_expression(tab, ARRAY[m ->> 'completed_at', m ->> 'updated_at', m ->> 'created_at'],
        mapping ->> 'time_zone'), 't.', '');
    paid text := replace(paidwatch.is_word(tab, m ->> 'status', paidwatch.words(m -> 'paid')), 't.', '');
    owner text := CASE WHEN paidwatch.column_type(tab, m ->> 'user') IS NULL THEN '' ELSE format(', %I', m ->> 'user') END;
    wanted text := format('ON %s ((%s)%s) WHERE %s', tab, settled, owner, paid);
    present record;
BEGIN
    -- CONCURRENTLY does not work on a partitioned table, and without it writers would wait: that index is its owner's to make.
    IF settled LIKE 'NULL%' OR (SELECT relkind FROM pg_class WHERE oid = tab) <> 'r' THEN
        RETURN;
    END IF;
    SELECT i.indexrelid::regclass AS name, i.indisvalid AS valid, obj_description(i.indexrelid, 'pg_class') AS fingerprint INTO present
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = tab AND c.relname = 'paidwatch_recent_paid';
    IF present.valid AND present.fingerprint = md5(wanted) THEN
        RETURN;
    END IF;
    IF present.name IS NOT NULL THEN
        RETURN NEXT format('DROP INDEX CONCURRENTLY %s', present.name);
    END IF;
    RETURN NEXT 'CREATE INDEX CONCURRENTLY paidwatch_recent_paid ' || wanted;
    RETURN NEXT format('COMMENT ON INDEX %I.paidwatch_recent_paid IS %L',
        (SELECT nspname FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid WHERE c.oid = tab), md5(wanted));
END $$;

-- The indexes by which everything about one payment is found, where the application has none that begins with the column: a
-- verdict must not read a table as a whole. Made and taken out like the one above.
CREATE OR REPLACE FUNCTION paidwatch.lookup_indexes(mapping json) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.statement
    FROM (VALUES ('payments', 'user'), ('payments', 'reference'), ('events', 'user'), ('webhooks', 'payment'), ('webhooks', 'user'),
        ('webhooks', 'created_at')) AS w (section, field)
    CROSS JOIN LATERAL (
        SELECT paidwatch.named_table(w.section, mapping -> w.section ->> 'table') AS tab, mapping -> w.section ->> w.field AS col,
            format('paidwatch_%s_%s', w.section, w.field) AS name
    ) t
    JOIN pg_class r ON r.oid = t.tab AND r.relkind = 'r'
    JOIN pg_attribute a ON a.attrelid = t.tab AND a.attname = t.col AND NOT a.attisdropped
    JOIN pg_type y ON y.oid = a.atttypid
    CROSS JOIN LATERAL (
        -- A B-tree refuses a value beyond 2.7 kB, and with it the application's row; a hash takes texts of any length.
        SELECT y.typcategory = 'S' AND NOT (a.atttypid IN ('varchar'::regtype, 'bpchar'::regtype) AND a.atttypmod BETWEEN 4 AND 654) AS long
    ) l
    CROSS JOIN LATERAL (
        SELECT format('DROP INDEX CONCURRENTLY %s', i.indexrelid::regclass) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = t.tab AND c.relname = t.name
        UNION ALL
        SELECT format('CREATE INDEX CONCURRENTLY IF NOT EXISTS %I ON %s%s (%I)', t.name, t.tab, CASE WHEN l.long THEN ' USING hash' ELSE '' END, t.col)
    ) s (statement)
    WHERE NOT EXISTS (
        SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
        WHERE i.indrelid = t.tab AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL
            AND NOT (l.long AND c.relname = t.name AND m.amname <> 'hash'))
$$;

CREATE OR REPLACE FUNCTION paidwatch.index_removals() RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('DROP INDEX CONCURRENTLY %s', c.oid::regclass) FROM pg_class c
    WHERE c.relkind = 'i' AND c.relnamespace <> coalesce(to_regnamespace('paidwatch')::oid, 0) AND c.relname IN (
        'paidwatch_recent_paid', 'paidwatch_payments_user', 'paidwatch_payments_reference', 'paidwatch_events_user',
        'paidwatch_webhooks_payment', 'paidwatch_webhooks_user', 'paidwatch_webhooks_created_at')
$$;
