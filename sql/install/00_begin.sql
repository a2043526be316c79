-- The installation of paidwatch, one transaction; it may be run again at any time, and by several at once.
BEGIN;
SET LOCAL client_min_messages = warning;
-- A trigger needs a lock that keeps writers out, and whoever waits for it keeps them out too: so the wait is short.
SET LOCAL lock_timeout = '3s';
SELECT pg_advisory_xact_lock(8097873591115412587);
