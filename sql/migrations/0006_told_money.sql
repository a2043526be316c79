-- Activations of money that only signed webhooks tell of: there is no payment row, so the provider's reference is the key.

ALTER TABLE paidwatch.activation
    ALTER COLUMN payment_id DROP NOT NULL,
    -- In small letters, as in paidwatch.claim.
    ADD COLUMN method text,
    ADD COLUMN reference text,
    -- All by which signed webhooks named the payment when it was claimed, the order's id among them: whichever of these a payment row
    -- bears that is written later, it has been activated.
    ADD COLUMN names text[] NOT NULL DEFAULT '{}',
    ADD CONSTRAINT activation_subject_check CHECK ((payment_id IS NULL) = (reference IS NOT NULL) AND (method IS NULL) = (reference IS NULL));
CREATE UNIQUE INDEX activation_told_once ON paidwatch.activation (method, reference)
    WHERE reference IS NOT NULL AND state IN ('claimed', 'calling', 'done');
CREATE UNIQUE INDEX activation_told_shadow ON paidwatch.activation (method, reference) WHERE reference IS NOT NULL AND state = 'shadow';
CREATE INDEX activation_told_names ON paidwatch.activation USING gin (names) WHERE reference IS NOT NULL;

-- Since when there is the money that a webhook tells of: as the order's id says, or else the provider.
ALTER TABLE paidwatch.reading ADD COLUMN made_at timestamptz;

-- Webhooks that are not yet emptied: each purge begins with the oldest of them.
CREATE INDEX webhook_whole ON paidwatch.webhook (received_at) WHERE body <> '' OR state <> 'verified';
