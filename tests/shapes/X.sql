-- Shape X: another shop entirely. A schema of its own, mixed-case names that must be quoted, uuid and text keys,
-- timestamps with zone, other words for everything, and neither events nor a webhook log.
-- Orders:   "Open" → "Settled" | "Declined", later perhaps "Refunded".
-- Accounts: "Dormant", "Live", "Overdue", "Closed"; levels none < basic < gold.

CREATE SCHEMA "Shop";

CREATE TABLE "Shop"."Offers" (
    "Code"      text          PRIMARY KEY,
    "Title"     text          NOT NULL,
    "Price"     numeric(12,2) NOT NULL,
    "Days"      integer       NOT NULL,
    "For sale"  boolean       NOT NULL DEFAULT true
);

CREATE TABLE "Shop"."Accounts" (
    "AccountId"  uuid         PRIMARY KEY DEFAULT gen_random_uuid(),
    "Mail"       text         NOT NULL UNIQUE,
    "Secret"     text         NOT NULL,
    "Enabled"    boolean      NOT NULL DEFAULT true,
    "Staff"      boolean      NOT NULL DEFAULT false,
    "State"      text         NOT NULL DEFAULT 'Dormant',
    "Level"      text         NOT NULL DEFAULT 'none',
    "PaidUntil"  timestamptz,
    "ShutOffAt"  timestamptz,
    "Made"       timestamptz  NOT NULL DEFAULT now(),
    "Changed"    timestamptz  NOT NULL DEFAULT now()
);

CREATE TABLE "Shop"."Orders" (
    "OrderNo"    text          PRIMARY KEY,
    "AccountId"  uuid          NOT NULL REFERENCES "Shop"."Accounts" ("AccountId"),
    "Offer"      text          NOT NULL REFERENCES "Shop"."Offers" ("Code"),
    "Total"      numeric(12,2) NOT NULL,
    "Currency"   char(3)       NOT NULL DEFAULT 'EUR',
    "PaidWith"   text          NOT NULL,
    "Receipt"    text          UNIQUE,
    "State"      text          NOT NULL DEFAULT 'Open',
    "Placed"     timestamptz   NOT NULL DEFAULT now(),
    "Settled"    timestamptz
);

CREATE INDEX "Orders by account" ON "Shop"."Orders" ("AccountId");

INSERT INTO "Shop"."Offers" ("Code", "Title", "Price", "Days")
VALUES ('none', 'Nothing', 0.00, 7), ('basic', 'Basic', 14.99, 30), ('gold', 'Gold', 29.99, 30);
