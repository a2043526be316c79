-- Schema and key types. Everything of paidwatch's own lives in the schema `paidwatch`; dropping it removes it all.
-- Every file of the installation may be run again at any time: what is already as it should be is not touched.

CREATE SCHEMA IF NOT EXISTS paidwatch;

-- A table named in the configuration ("schema.table", quoted where needed), or NULL for "" (there is none).
CREATE OR REPLACE FUNCTION paidwatch.named_table(section text, name text) RETURNS regclass
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    found regclass;
BEGIN
    IF coalesce(name, '') = '' THEN
        RETURN NULL;
    END IF;
    found := to_regclass(name);
    IF found IS NULL AND section IN ('payments', 'users') THEN
        RAISE EXCEPTION 'there is no table % (or no right to see it)', name
            USING ERRCODE = 'undefined_table', HINT = format('Correct table in [%s], or connect to the right database.', section);
    END IF;
    RETURN found;
END $$;

-- The type of a column, or NULL where the table or the column does not exist.
CREATE OR REPLACE FUNCTION paidwatch.column_type(tab regclass, col text) RETURNS regtype
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.atttypid::regtype FROM pg_attribute a
    WHERE a.attrelid = tab AND a.attname = col AND a.attnum > 0 AND NOT a.attisdropped
$$;

-- The type of a column that must be there.
CREATE OR REPLACE FUNCTION paidwatch.required_type(section text, field text, tab regclass, col text) RETURNS regtype
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found regtype := paidwatch.column_type(tab, col);
BEGIN
    IF found IS NULL THEN
        RAISE EXCEPTION 'table % has no column "%"', tab, col
            USING ERRCODE = 'undefined_column', HINT = format('Correct %s in [%s].', field, section);
    END IF;
    RETURN found;
END $$;

-- paidwatch.payment_key and paidwatch.user_key: domains over whatever types the application's keys have.
CREATE OR REPLACE FUNCTION paidwatch.define_key(domain_name text, base regtype) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    present oid := to_regtype(format('paidwatch.%I', domain_name));
    former oid;
BEGIN
    IF base NOT IN ('int2'::regtype, 'int4', 'int8', 'uuid', 'text', 'varchar') THEN
        RAISE EXCEPTION 'a key of type % cannot be watched', base
            USING ERRCODE = 'datatype_mismatch', HINT = 'Supported key types: smallint, integer, bigint, uuid, text, varchar.';
    END IF;
    IF present IS NULL THEN
        EXECUTE format('CREATE DOMAIN paidwatch.%I AS %s', domain_name, base);
        RETURN;
    END IF;
    SELECT typbasetype INTO former FROM pg_type WHERE oid = present;
    IF former <> base THEN
        RAISE EXCEPTION 'the key type was % at installation and is now %', former::regtype, base
            USING ERRCODE = 'datatype_mismatch', HINT = 'Run paidwatch uninstall, then paidwatch install.';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION paidwatch.define_keys(mapping json) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    payments json := mapping -> 'payments';
    users json := mapping -> 'users';
    payment_table regclass := paidwatch.named_table('payments', payments ->> 'table');
    user_table regclass := paidwatch.named_table('users', users ->> 'table');
BEGIN
    PERFORM paidwatch.define_key('payment_key',
        paidwatch.required_type('payments', 'id', payment_table, payments ->> 'id'));
    PERFORM paidwatch.define_key('user_key',
        paidwatch.required_type('users', 'id', user_table, users ->> 'id'));
END $$;

-- Which migrations are in. The row is written first, in the migration's own transaction.
CREATE TABLE IF NOT EXISTS paidwatch.migration (
    version integer PRIMARY KEY,
    name text NOT NULL,
    breaking boolean NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- Runs a migration once.
CREATE OR REPLACE FUNCTION paidwatch.migrate(number integer, title text, is_breaking boolean, script text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO paidwatch.migration (version, name, breaking) VALUES (number, title, is_breaking) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    EXECUTE script;
    RETURN true;
END $$;
