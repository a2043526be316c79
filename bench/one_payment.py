"""A process that pays when told to: `python -m bench.one_payment DSN…`, then the number of a database on each line.

Answers with the reading of the system-wide monotonic clock, in nanoseconds, right before COMMIT was sent.
"""

import sys
import time

import anyio
import asyncpg

PENDING = """
INSERT INTO public.payment_transactions (user_id, plan_id, amount_usd, payment_method, transaction_id,
    status, created_at, updated_at)
SELECT 1 + n % 50000, 'professional', 14.99, 'nowpayments', gen_random_uuid()::text, 'pending', now(), now()
FROM generate_series(1, $1::integer) AS n
"""
_PAY = "UPDATE public.payment_transactions SET status = 'completed', completed_at = now() WHERE id = $1"


async def main() -> None:
    """Serve until the end of the input."""
    connections = [await asyncpg.connect(dsn, timeout=20) for dsn in sys.argv[1:]]
    paid = [0] * len(connections)
    lines = anyio.wrap_file(sys.stdin)
    async for line in lines:
        number = int(line)
        connection = connections[number]
        paid[number] += 1
        await connection.execute("BEGIN")
        await connection.execute(_PAY, paid[number])
        at = time.monotonic_ns()
        await connection.execute("COMMIT")
        print(at, flush=True)


if __name__ == "__main__":
    anyio.run(main)
