-- What the sample shop does all day, for `paidwatch demo`: statements of the application, not of paidwatch. `now` is in UTC because
-- the shop's timestamps have no zone.

-- name: register
-- A new customer. $1 name.
INSERT INTO public.users (email, username, hashed_password, is_active, is_admin, subscription_status, subscription_tier, trial_used, created_at, updated_at)
SELECT $1::text || '@shop.example', $1::text, '-', true, false, 'inactive', 'free', false, t.now, t.now
FROM (SELECT clock_timestamp() AT TIME ZONE 'UTC' AS now) t
RETURNING id;

-- name: order
-- The customer goes to the provider's payment page. $1 customer, $2 plan, $3 the provider's id.
INSERT INTO public.payment_transactions (user_id, plan_id, amount_usd, payment_method, transaction_id, status, created_at, updated_at)
SELECT $1::integer, p.id, p.price_usd, 'nowpayments', $3::text, 'pending', t.now, t.now
FROM public.subscription_plans p, (SELECT clock_timestamp() AT TIME ZONE 'UTC' AS now) t WHERE p.id = $2::text
RETURNING id, amount_usd;

-- name: pay
-- The money is there. $1 payment.
UPDATE public.payment_transactions SET status = 'completed', completed_at = clock_timestamp() AT TIME ZONE 'UTC' WHERE id = $1::integer;

-- name: refund
-- The money goes back. $1 payment.
UPDATE public.payment_transactions SET status = 'refunded' WHERE id = $1::integer;

-- name: log_webhook
-- The provider's signed message arrives, and its handler fails. $1 payment, $2 what the handler said.
INSERT INTO public.webhook_logs (payment_method, webhook_type, webhook_data, signature_valid, processing_status, error_message, user_id, payment_id, plan_id, created_at)
SELECT p.payment_method, 'payment', jsonb_build_object('payment_status', 'finished'), true, 'failed', $2::text, p.user_id, p.transaction_id, p.plan_id,
    clock_timestamp() AT TIME ZONE 'UTC'
FROM public.payment_transactions p WHERE p.id = $1::integer;

-- name: activate
-- The handler of the provider's message does what it is for. $1 payment.
WITH paid AS (
    SELECT p.id, p.user_id, p.plan_id, p.transaction_id, t.now, t.now + make_interval(days => s.duration_days) AS until
    FROM public.payment_transactions p JOIN public.subscription_plans s ON s.id = p.plan_id,
        (SELECT clock_timestamp() AT TIME ZONE 'UTC' AS now) t
    WHERE p.id = $1::integer
), granted AS (
    UPDATE public.users u SET subscription_status = 'active', subscription_tier = paid.plan_id, plan_id = paid.plan_id, last_payment_date = paid.now,
        payment_due_date = paid.until, subscription_renewal_date = paid.until, current_period_end = paid.until,
        access_revoked_at = NULL, subscription_updated_at = paid.now, updated_at = paid.now
    FROM paid WHERE u.id = paid.user_id
)
INSERT INTO public.subscription_events (user_id, event_type, event_data, processed, created_at, updated_at)
SELECT user_id, 'activated', json_build_object('plan_id', plan_id, 'payment_reference', transaction_id), true, now, now FROM paid;

-- name: access
-- What a customer has. $1 customer.
SELECT subscription_status AS status, subscription_tier AS tier FROM public.users WHERE id = $1::integer;

-- name: logged
-- The newest webhook that names a payment, in the application's log; one row of NULLs where there is none. $1 the provider's id.
SELECT (SELECT w.signature_valid FROM public.webhook_logs w WHERE w.payment_id = $1::text ORDER BY w.id DESC LIMIT 1) AS valid,
    (SELECT w.processing_status FROM public.webhook_logs w WHERE w.payment_id = $1::text ORDER BY w.id DESC LIMIT 1) AS status;

-- name: unfinished
-- How many of these payments paidwatch has not come to an end with, or not heard of yet. $1 payments.
SELECT count(*) AS open FROM unnest($1::text[]) AS p (id) LEFT JOIN paidwatch.watch w ON w.payment_id::text = p.id
WHERE w.state IS DISTINCT FROM 'closed';

-- name: figures
-- What became of everything that was paid.
SELECT count(*) AS payments, count(*) FILTER (WHERE outcome = 'activated') AS activated, count(*) FILTER (WHERE outcome = 'fixed') AS fixed,
    count(*) FILTER (WHERE outcome = 'reversed') AS reversed, count(*) FILTER (WHERE state <> 'closed') AS open,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY settled_at - paid_at) FILTER (WHERE outcome = 'activated') AS median
FROM paidwatch.watch;
