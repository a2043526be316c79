-- Shape M, the oldest one still seen: a user has a tier and a due date but no status, plan or period of his own,
-- events are short and unprocessed, and the webhook log has only the columns of its first form.

CREATE TABLE public.subscription_plans (
    id             varchar(50)   PRIMARY KEY,
    name           varchar(100)  NOT NULL,
    description    text,
    price_usd      numeric(10,2) NOT NULL DEFAULT 0,
    price_usdt     numeric(10,2) NOT NULL DEFAULT 0,
    interval       varchar(20)   DEFAULT 'month',
    duration_days  integer,
    features       jsonb         DEFAULT '[]',
    is_active      boolean       DEFAULT true,
    created_at     timestamp     DEFAULT now(),
    updated_at     timestamp     DEFAULT now()
);

CREATE TABLE public.users (
    id                         serial        PRIMARY KEY,
    email                      varchar(255)  NOT NULL UNIQUE,
    username                   varchar(50)   NOT NULL UNIQUE,
    hashed_password            varchar(255)  NOT NULL,
    is_active                  boolean       NOT NULL DEFAULT true,
    is_admin                   boolean       NOT NULL DEFAULT false,
    subscription_tier          varchar(20)   DEFAULT 'free',
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
    trial_used                 boolean       DEFAULT false,
    created_at                 timestamp     DEFAULT now(),
    updated_at                 timestamp     DEFAULT now()
);

CREATE TABLE public.payment_transactions (
    id              serial        PRIMARY KEY,
    user_id         integer       NOT NULL REFERENCES public.users (id),
    plan_id         varchar(50)   REFERENCES public.subscription_plans (id),
    amount_usd      numeric(10,2) NOT NULL,
    amount_usdt     numeric(10,2),
    payment_method  varchar(50)   NOT NULL,
    transaction_id  varchar(255)  UNIQUE,
    status          varchar(20)   DEFAULT 'pending',
    payment_data    jsonb,
    created_at      timestamp     DEFAULT now(),
    completed_at    timestamp,
    updated_at      timestamp     DEFAULT now()
);

CREATE TABLE public.subscription_events (
    id          serial       PRIMARY KEY,
    user_id     integer      NOT NULL REFERENCES public.users (id),
    event_type  varchar(50)  NOT NULL,
    event_data  jsonb        NOT NULL,
    created_at  timestamp    DEFAULT now(),
    updated_at  timestamp    DEFAULT now()
);

CREATE TABLE public.webhook_logs (
    id                 serial       PRIMARY KEY,
    payment_method     varchar(50)  NOT NULL,
    webhook_data       jsonb        NOT NULL,
    signature          varchar(500),
    signature_valid    boolean,
    processing_status  varchar(50)  NOT NULL DEFAULT 'received',
    error_message      text,
    created_at         timestamp    DEFAULT now()
);

CREATE INDEX idx_webhook_logs_created_at ON public.webhook_logs (created_at);
CREATE INDEX idx_webhook_logs_payment_method ON public.webhook_logs (payment_method);
CREATE INDEX idx_webhook_logs_processing_status ON public.webhook_logs (processing_status);

CREATE FUNCTION public.touch_updated_at() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;

CREATE TRIGGER payment_transactions_touch_updated_at
    BEFORE UPDATE ON public.payment_transactions
    FOR EACH ROW EXECUTE FUNCTION public.touch_updated_at();

INSERT INTO public.subscription_plans (id, name, price_usd, price_usdt, interval, duration_days)
VALUES
    ('free_trial', 'Free trial', 0.00, 0.00, 'trial', 7),
    ('professional', 'Professional', 14.99, 14.99, 'month', 30),
    ('vip_elite', 'VIP Elite', 29.99, 29.99, 'month', 30);
