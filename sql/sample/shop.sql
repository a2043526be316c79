-- A shop that sells subscriptions, as an ORM creates its tables from the models on an empty database.
-- The models fill in most values themselves: many columns are NOT NULL and have no default in the database.
-- All timestamps are without zone. `paidwatch demo` plays this shop; the tests call it shape F.

CREATE TABLE public.subscription_plans (
    id             varchar(50)   PRIMARY KEY,
    name           varchar(100)  NOT NULL,
    description    text,
    price_usd      numeric(10,2) NOT NULL,
    price_usdt     numeric(10,2) NOT NULL,
    interval       varchar(20)   NOT NULL,
    duration_days  integer,
    features       json,
    is_active      boolean       NOT NULL,
    created_at     timestamp     NOT NULL,
    updated_at     timestamp     NOT NULL
);

CREATE TABLE public.users (
    id                         serial        PRIMARY KEY,
    email                      varchar(255)  NOT NULL UNIQUE,
    username                   varchar(50)   NOT NULL UNIQUE,
    hashed_password            varchar(255)  NOT NULL,
    is_active                  boolean       NOT NULL,
    is_admin                   boolean       NOT NULL,
    subscription_status        varchar(50)   NOT NULL,
    subscription_tier          varchar(20)   NOT NULL,
    plan_id                    varchar(100),
    current_period_end         timestamp,
    payment_due_date           timestamp,
    subscription_renewal_date  timestamp,
    last_payment_date          timestamp,
    access_revoked_at          timestamp,
    subscription_created_at    timestamp,
    subscription_updated_at    timestamp,
    payment_method             varchar(50),
    stripe_customer_id         varchar(255),
    trial_started_at           timestamp,
    trial_ends_at              timestamp,
    trial_used                 boolean       NOT NULL,
    created_at                 timestamp     NOT NULL,
    updated_at                 timestamp     NOT NULL
);

CREATE TABLE public.payment_transactions (
    id              serial        PRIMARY KEY,
    user_id         integer       NOT NULL REFERENCES public.users (id),
    plan_id         varchar(50)   NOT NULL REFERENCES public.subscription_plans (id),
    amount_usd      numeric(10,2) NOT NULL,
    amount_usdt     numeric(10,2),
    payment_method  varchar(50)   NOT NULL,
    transaction_id  varchar(255)  UNIQUE,
    status          varchar(20)   NOT NULL,
    payment_data    json,
    created_at      timestamp     NOT NULL,
    completed_at    timestamp,
    updated_at      timestamp     NOT NULL
);

CREATE INDEX ix_payment_transactions_user_id ON public.payment_transactions (user_id);
CREATE INDEX ix_payment_transactions_status ON public.payment_transactions (status);

CREATE TABLE public.subscription_events (
    id               serial       PRIMARY KEY,
    user_id          integer      NOT NULL REFERENCES public.users (id),
    event_type       varchar(100) NOT NULL,
    stripe_event_id  varchar(255) UNIQUE,
    event_data       json         NOT NULL,
    processed        boolean      NOT NULL,
    created_at       timestamp    NOT NULL,
    updated_at       timestamp    NOT NULL
);

CREATE INDEX ix_subscription_events_user_id ON public.subscription_events (user_id);

CREATE TABLE public.webhook_logs (
    id                 serial       PRIMARY KEY,
    payment_method     varchar(50)  NOT NULL,
    webhook_type       varchar(50),
    webhook_data       jsonb        NOT NULL,
    headers            jsonb,
    signature          varchar(500),
    signature_valid    boolean,
    processing_status  varchar(50)  NOT NULL DEFAULT 'received',
    error_message      text,
    user_id            integer      REFERENCES public.users (id) ON DELETE SET NULL,
    payment_id         varchar(255),
    plan_id            varchar(50),
    created_at         timestamp    NOT NULL,
    processed_at       timestamp
);

CREATE INDEX ix_webhook_logs_created_at ON public.webhook_logs (created_at);
CREATE INDEX ix_webhook_logs_payment_method ON public.webhook_logs (payment_method);
CREATE INDEX ix_webhook_logs_processing_status ON public.webhook_logs (processing_status);

CREATE FUNCTION public.touch_updated_at() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := clock_timestamp() AT TIME ZONE 'UTC';
    RETURN NEW;
END
$$;

CREATE TRIGGER payment_transactions_touch_updated_at
    BEFORE UPDATE ON public.payment_transactions
    FOR EACH ROW EXECUTE FUNCTION public.touch_updated_at();

INSERT INTO public.subscription_plans
    (id, name, description, price_usd, price_usdt, interval, duration_days, features, is_active, created_at, updated_at)
VALUES
    ('free_trial', 'Free trial', 'A week to look around', 0.00, 0.00, 'trial', 7, '[]', true,
     now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'),
    ('professional', 'Professional', 'Signals for one month', 14.99, 14.99, 'month', 30, '["signals"]', true,
     now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'),
    ('vip_elite', 'VIP Elite', 'Signals and a private group for one month', 29.99, 29.99, 'month', 30,
     '["signals", "group"]', true, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC');
