-- Views, triggers and rights, from the mapping.

-- What the mapping names and the database does not have: "users.revoked_at", "webhooks", …
CREATE OR REPLACE FUNCTION paidwatch.not_watched(mapping json) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    section text;
    field text;
    tab regclass;
    missing text[] := '{}';
BEGIN
    FOREACH section IN ARRAY ARRAY['payments', 'users', 'plans', 'events', 'webhooks'] LOOP
        tab := paidwatch.named_table(section, mapping -> section ->> 'table');
        IF tab IS NULL THEN
            missing := missing || section;
            CONTINUE;
        END IF;
        FOR field IN SELECT k FROM json_object_keys(mapping -> section) AS k
            WHERE json_typeof(mapping -> section -> k) = 'string' AND k NOT IN ('table', 'write') LOOP
            IF mapping -> section ->> field <> '' AND paidwatch.column_type(tab, mapping -> section ->> field) IS NULL THEN
                missing := missing || (section || '.' || field);
            END IF;
        END LOOP;
    END LOOP;
    RETURN missing;
END $$;

CREATE OR REPLACE FUNCTION paidwatch.attach_triggers(mapping json) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rings boolean := coalesce(mapping ->> 'two_phase', 'auto') = 'never';
    m json := mapping -> 'payments';
    tab regclass := paidwatch.named_table('payments', m ->> 'table');
BEGIN
    PERFORM paidwatch.watch_payments(tab, m ->> 'id', m ->> 'user', m ->> 'status',
        ARRAY[m ->> 'plan'] || ARRAY(SELECT value FROM json_each_text(m -> 'amounts')),
        paidwatch.words(m -> 'paid'), paidwatch.words(m -> 'reversed'), rings);
    m := mapping -> 'users';
    tab := paidwatch.named_table('users', m ->> 'table');
    PERFORM paidwatch.watch_users(tab, m ->> 'id',
        ARRAY[m ->> 'status', m ->> 'tier', m ->> 'paid_until', m ->> 'revoked_at', m ->> 'enabled', m ->> 'admin'], rings);
    m := mapping -> 'events';
    tab := paidwatch.named_table('events', m ->> 'table');
    IF paidwatch.column_type(tab, m ->> 'user') IS NOT NULL AND paidwatch.column_type(tab, m ->> 'type') IS NOT NULL THEN
        PERFORM paidwatch.watch_events(tab, m ->> 'id', m ->> 'user', m ->> 'type',
            paidwatch.words(m -> 'activated') || paidwatch.words(m -> 'failed') || paidwatch.words(m -> 'deliberate'), rings);
    END IF;
    m := mapping -> 'webhooks';
    tab := paidwatch.named_table('webhooks', m ->> 'table');
    IF paidwatch.column_type(tab, m ->> 'id') IS NOT NULL AND paidwatch.column_type(tab, m ->> 'status') IS NOT NULL
        AND paidwatch.column_type(tab, m ->> 'created_at') IS NOT NULL THEN
        PERFORM paidwatch.watch_webhooks(tab, m ->> 'id', m ->> 'user', m ->> 'status', m ->> 'valid', rings);
    END IF;
END $$;

-- The tables that carried triggers under the former mapping and do not appear in the new one.
CREATE OR REPLACE FUNCTION paidwatch.detach_former(former json, mapping json) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    section text;
    tab regclass;
BEGIN
    FOREACH section IN ARRAY ARRAY['payments', 'users', 'events', 'webhooks'] LOOP
        tab := paidwatch.named_table(section || ' (former)', former -> section ->> 'table');
        IF tab IS NOT NULL AND tab IS DISTINCT FROM paidwatch.named_table(section, mapping -> section ->> 'table') THEN
            PERFORM paidwatch.unwatch(tab);
        END IF;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION paidwatch.attach(mapping json) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    zone text := mapping ->> 'time_zone';
    role text;
BEGIN
    PERFORM paidwatch.define_payments(mapping -> 'payments', zone);
    PERFORM paidwatch.define_subscribers(mapping -> 'users', paidwatch.words(mapping -> 'plans' -> 'order'), zone);
    PERFORM paidwatch.define_plans(mapping -> 'plans');
    PERFORM paidwatch.define_events(mapping -> 'events', zone);
    PERFORM paidwatch.define_webhooks(mapping -> 'webhooks', zone);
    PERFORM paidwatch.detach_former((SELECT i.mapping FROM paidwatch.installation i), mapping);
    PERFORM paidwatch.attach_triggers(mapping);
    INSERT INTO paidwatch.installation AS i (mapping, not_watched) VALUES (mapping, paidwatch.not_watched(mapping))
    ON CONFLICT (singleton) DO UPDATE SET mapping = excluded.mapping, not_watched = excluded.not_watched, updated_at = now()
    WHERE i.mapping::text <> excluded.mapping::text OR i.not_watched <> excluded.not_watched;
    IF coalesce(mapping ->> 'runtime_role', '') <> '' THEN
        PERFORM paidwatch.grant_runtime(mapping ->> 'runtime_role');
    END IF;
    -- Roles that were granted by hand get what a later version added, and nothing that their owner may have taken away.
    FOR role IN SELECT DISTINCT r.rolname FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) x JOIN pg_roles r ON r.oid = x.grantee
        WHERE c.oid = 'paidwatch.watch'::regclass AND x.privilege_type = 'INSERT' AND x.grantee <> c.relowner LOOP
        -- A view that was defined anew has lost its rights.
        EXECUTE format('GRANT SELECT ON paidwatch.payments, paidwatch.subscribers, paidwatch.plans, paidwatch.events, paidwatch.webhooks TO %I', role);
        EXECUTE format('GRANT SELECT, INSERT ON paidwatch.alert_history TO %I', role);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON paidwatch.silence TO %I', role);
        EXECUTE format('GRANT UPDATE (digest_at, audited_at, log_read_at) ON paidwatch.installation TO %I', role);
        EXECUTE format('GRANT SELECT, UPDATE ON paidwatch.breaker TO %I', role);
        EXECUTE format('GRANT EXECUTE ON FUNCTION paidwatch.planned_subscriber(paidwatch.user_key, jsonb) TO %I', role);
        EXECUTE format('REVOKE DELETE ON paidwatch.activation FROM %I', role);
        IF has_function_privilege(role, 'paidwatch.write_subscriber(paidwatch.user_key, jsonb)', 'EXECUTE') THEN
            PERFORM paidwatch.grant_undo(role);
        END IF;
        EXECUTE format('GRANT SELECT, INSERT, DELETE ON paidwatch.link_use TO %I', role);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON paidwatch.webhook, paidwatch.forward_attempt, paidwatch.forward_target, paidwatch.reading, paidwatch.reading_name, '
            'paidwatch.unread, paidwatch.claim, paidwatch.answer TO %I', role);
        EXECUTE format('GRANT EXECUTE ON FUNCTION paidwatch.write_webhooks(jsonb[], text[]), paidwatch.update_webhooks(text[], jsonb[]) TO %I', role);
    END LOOP;
END $$;

-- What the role that runs the daemon needs, and no more. Safe to run again; `psql -c "SELECT paidwatch.grant_runtime('role')"`.
CREATE OR REPLACE FUNCTION paidwatch.grant_runtime(role text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
        RAISE EXCEPTION 'there is no role "%"', role
            USING ERRCODE = 'undefined_object', HINT = format('CREATE ROLE %I LOGIN PASSWORD …; then run paidwatch install again.', role);
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA paidwatch TO %I', role);
    EXECUTE format('GRANT SELECT ON paidwatch.payments, paidwatch.subscribers, paidwatch.plans, paidwatch.events, paidwatch.webhooks, '
        'paidwatch.migration TO %I', role);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON paidwatch.inbox, paidwatch.watch, paidwatch.alert, paidwatch.delivery, '
        'paidwatch.attempt, paidwatch.channel TO %I', role);
    -- What was done is never erased: the audit and the history only grow, and of the ledger no row goes.
    EXECUTE format('GRANT SELECT, INSERT ON paidwatch.audit, paidwatch.alert_history TO %I', role);
    EXECUTE format('REVOKE DELETE ON paidwatch.activation FROM %I', role);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE ON paidwatch.activation TO %I', role);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE ON paidwatch.silence TO %I', role);
    EXECUTE format('GRANT SELECT, UPDATE ON paidwatch.breaker TO %I', role);
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON paidwatch.link_use TO %I', role);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON paidwatch.webhook, paidwatch.forward_attempt, paidwatch.forward_target, paidwatch.reading, paidwatch.reading_name, '
        'paidwatch.unread, paidwatch.claim, paidwatch.answer TO %I', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION paidwatch.write_webhooks(jsonb[], text[]), paidwatch.update_webhooks(text[], jsonb[]) TO %I', role);
    EXECUTE format('GRANT SELECT, UPDATE (baseline_at, listening_at, digest_at, audited_at, log_read_at) ON paidwatch.installation TO %I', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION paidwatch.lock_subscriber(paidwatch.user_key), paidwatch.planned_subscriber(paidwatch.user_key, jsonb), '
        'paidwatch.write_subscriber(paidwatch.user_key, jsonb), paidwatch.write_event(paidwatch.user_key, text, jsonb, text) TO %I', role);
    PERFORM paidwatch.grant_undo(role);
END $$;

-- What undoing an activation needs besides what activating needs.
CREATE OR REPLACE FUNCTION paidwatch.grant_undo(role text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION paidwatch.compare_subscriber(paidwatch.user_key, jsonb), '
        'paidwatch.restore_subscriber(paidwatch.user_key, jsonb, jsonb) TO %I', role);
END $$;

-- Takes everything off the application's tables.
CREATE OR REPLACE FUNCTION paidwatch.detach() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tab regclass;
BEGIN
    FOR tab IN SELECT DISTINCT tgrelid::regclass FROM pg_trigger
        WHERE NOT tgisinternal AND tgname LIKE 'paidwatch\_%' AND tgparentid = 0 LOOP
        PERFORM paidwatch.unwatch(tab);
    END LOOP;
END $$;
