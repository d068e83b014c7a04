-- Everything that changes a ledger, a consumer's usage or a reservation.
--
-- Each function runs as one statement in a transaction of its own and does, in this order: lock the day's ledger
-- row, look, write. What it looks at is read after the lock was granted (every statement of a PL/pgSQL function
-- takes a new snapshot under READ COMMITTED), so nothing it decides on can be out of date. The lock is the only
-- one that is waited for, for 2 seconds at the most, and it is held for the length of one statement: no client can
-- sit on it. (A SET clause on the functions would do for lock_timeout, but costs 100 microseconds a call.)
-- docs/adr/0002-ledger-functions-in-sql.md says why this is SQL.

-- The one clock: it decides the day and the pace.
CREATE FUNCTION quota_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

CREATE FUNCTION quota_day(moment timestamptz) RETURNS date LANGUAGE sql IMMUTABLE
AS $$ SELECT (moment AT TIME ZONE 'UTC')::date $$;

CREATE FUNCTION quota_midnight(day date) RETURNS timestamptz LANGUAGE sql IMMUTABLE
AS $$ SELECT day::timestamp AT TIME ZONE 'UTC' $$;

-- ISBNdb's clock and ours may differ by as much: nothing is sent so close to midnight, on either side.
CREATE FUNCTION quota_midnight_guard() RETURNS interval LANGUAGE sql IMMUTABLE AS $$ SELECT interval '2 seconds' $$;

CREATE TYPE quota_decision AS (
    outcome text,            -- granted | wait | unopened | inactive | unknown_consumer | closed | spent,
                             -- or the limit that refused: day_closed | midnight | cap_per_operation | daily_budget
                             -- | safety_limit | floor
    broken_limit text,       -- the limit that would have refused, when enforcement is off
    free integer,            -- calls that could have been granted
    retry_at timestamptz,    -- when to come back; null: coming back does not help
    day date,
    call bigint,             -- the journal row
    send_at timestamptz,
    send_in double precision,    -- seconds until the call may be sent, or until it is worth asking again
    valid_for double precision   -- seconds until the call must not be sent any more
);

-- The moment from which on nothing is sent for the day.
CREATE FUNCTION quota_last_slot(day date) RETURNS timestamptz
LANGUAGE sql IMMUTABLE AS $$ SELECT quota_midnight(day + 1) - quota_midnight_guard() $$;

-- Whether limits refuse: what the switches say, or else what the environment says.
CREATE FUNCTION quota_enforces(p_default text) RETURNS boolean LANGUAGE sql STABLE
AS $$ SELECT coalesce((SELECT nullif(enforcement, '') FROM quota_switches), p_default) = 'enforce' $$;

-- What stands against a consumer whatever the limits are: it is switched off, or harvesting is and it harvests.
CREATE FUNCTION quota_standing(p_active boolean, p_kind text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN NOT p_active THEN 'inactive'
        WHEN p_kind <> 'api' AND EXISTS (SELECT FROM quota_switches WHERE NOT harvest_enabled) THEN 'harvest_off'
    END
$$;

-- The limit that stands against `wanted` more calls; null when none does. A limit that is null does not exist.
CREATE FUNCTION quota_broken_limit(
    wanted integer, day_closed boolean, now timestamptz, day date,
    left_of_operation integer, left_of_budget integer, left_of_day integer, floor integer
) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN day_closed THEN 'day_closed'
        WHEN now >= quota_last_slot(day) THEN 'midnight'
        WHEN wanted > left_of_operation THEN 'cap_per_operation'
        WHEN wanted > left_of_budget THEN 'daily_budget'
        WHEN wanted > left_of_day THEN 'safety_limit'
        WHEN wanted > left_of_day - floor THEN 'floor'
    END
$$;

-- How many calls could be granted, and when to come back, where `broken_limit` stands against `wanted`. `at_most`: what
-- the most generous day grants one operation; coming back does not help whoever wants more.
CREATE FUNCTION quota_explain(
    broken_limit text, wanted integer, day date,
    left_of_operation integer, left_of_budget integer, left_of_day integer, floor integer, at_most integer,
    OUT free integer, OUT retry_at timestamptz
) LANGUAGE sql IMMUTABLE AS $$
    SELECT
        CASE
            WHEN broken_limit IN ('day_closed', 'midnight') THEN 0
            ELSE greatest(0, least(left_of_operation, left_of_budget, left_of_day - floor))
        END,
        CASE
            WHEN wanted > at_most THEN NULL
            WHEN broken_limit = 'midnight' THEN quota_midnight(day + 1) + quota_midnight_guard()
            ELSE quota_midnight(day + 1)
        END
$$;

-- Moves calls between used and reserved of the ledger and of the consumer's usage; the caller holds the ledger.
CREATE FUNCTION quota_post(p_day date, p_consumer bigint, p_used integer, p_reserved integer)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE quota_dailyledger SET used = used + p_used, reserved = reserved + p_reserved WHERE day = p_day;
    UPDATE quota_consumerusage SET used = used + p_used, reserved = reserved + p_reserved
    WHERE day = p_day AND consumer_id = p_consumer;
    IF NOT FOUND THEN
        INSERT INTO quota_consumerusage (day, consumer_id, used, reserved)
        VALUES (p_day, p_consumer, p_used, p_reserved);
    END IF;
END $$;

-- Closes an open reservation and gives back what was not dispatched; the caller holds the ledger.
CREATE FUNCTION quota_close(r quota_reservation, p_state text, now timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE quota_reservation SET state = p_state, closed_at = now WHERE id = r.id;
    IF r.calls > r.dispatched THEN
        PERFORM quota_post(r.day, r.consumer_id, 0, r.dispatched - r.calls);
    END IF;
END $$;

-- Closes a day's reservations whose lease ran out, or, of a past day, all of them. Returns how many.
CREATE FUNCTION quota_expire(p_day date) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    r quota_reservation;
    closed integer := 0;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    PERFORM FROM quota_dailyledger WHERE day = p_day FOR NO KEY UPDATE;
    now := quota_now();
    FOR r IN
        SELECT * FROM quota_reservation
        WHERE state = 'open' AND day = p_day AND (expires_at <= now OR p_day < quota_day(now))
    LOOP
        PERFORM quota_close(r, 'expired', now);
        closed := closed + 1;
    END LOOP;
    RETURN closed;
END $$;

-- The moment that the pace gives to the next call. A day's first call keeps clear of midnight.
CREATE FUNCTION quota_slot(day date, next_dispatch_at timestamptz, now timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE AS $$ SELECT greatest(now, next_dispatch_at, quota_midnight(day) + quota_midnight_guard()) $$;

-- The time between two calls: a twentieth more than its share, because the way to ISBNdb shifts them a little, and
-- even then no second should see more than max_rps of them.
CREATE FUNCTION quota_pace(max_rps integer) RETURNS interval
LANGUAGE sql IMMUTABLE AS $$ SELECT interval '1.05 seconds' / max_rps $$;

-- Opens today's ledger. Null when it is open already; otherwise its day. What an earlier day asks for, the pace or a
-- pause, holds past midnight; its row is locked, so that a pause that is being written is not missed.
CREATE FUNCTION quota_open(p_daily_limit integer, p_safety_buffer integer, p_max_rps integer)
RETURNS date LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    opened date;
    not_before timestamptz;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    PERFORM FROM quota_dailyledger
    WHERE day = (SELECT max(day) FROM quota_dailyledger WHERE day < quota_day(quota_now())) FOR NO KEY UPDATE;
    now := quota_now();
    SELECT max(next_dispatch_at) INTO not_before FROM quota_dailyledger WHERE day < quota_day(now);
    INSERT INTO quota_dailyledger (
        day, daily_limit, safety_buffer, max_rps, used, reserved, next_dispatch_at, closed_reason, opened_at
    ) VALUES (
        quota_day(now), p_daily_limit, p_safety_buffer, p_max_rps, 0, 0, greatest(now, not_before), '', now
    ) ON CONFLICT (day) DO NOTHING RETURNING day INTO opened;
    RETURN opened;
END $$;

-- Sets calls aside for one operation, today, and, where p_method is given, spends the first of them in the same
-- breath when the pace has a moment for it within p_max_wait; otherwise the outcome is 'wait' and the reservation
-- stands.
CREATE FUNCTION quota_reserve(
    p_consumer text, p_operation text, p_source text, p_calls integer,
    p_method text, p_path text, p_isbns_asked integer,
    p_lease double precision, p_max_wait double precision, p_enforce boolean,
    OUT reservation uuid, OUT decision quota_decision
) LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    today date;
    ledger quota_dailyledger;
    consumer record;
    again record;
    spent integer := 0;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    LOOP
        today := quota_day(quota_now());
        SELECT * INTO ledger FROM quota_dailyledger WHERE day = today FOR NO KEY UPDATE;
        now := quota_now();
        EXIT WHEN today = quota_day(now);  -- midnight may pass while we wait for the lock
    END LOOP;
    SELECT c.id, quota_standing(c.active, c.kind) AS standing, c.floor, c.cap_per_operation, c.daily_budget,
        c.daily_budget - coalesce(u.used + u.reserved, 0) AS left_of_budget
    INTO consumer
    FROM quota_consumer c LEFT JOIN quota_consumerusage u ON u.consumer_id = c.id AND u.day = today
    WHERE c.slug = p_consumer;
    decision.day := today;
    IF ledger.day IS NULL THEN
        decision.outcome := 'unopened';
        RETURN;
    ELSIF consumer.id IS NULL THEN
        decision.outcome := 'unknown_consumer';
        RETURN;
    ELSIF consumer.standing IS NOT NULL THEN
        decision.outcome := consumer.standing;
        RETURN;
    END IF;

    decision.broken_limit := quota_broken_limit(
        p_calls, ledger.closed_at IS NOT NULL, now, today, consumer.cap_per_operation, consumer.left_of_budget,
        ledger.safety_limit - ledger.used - ledger.reserved, consumer.floor
    );
    IF decision.broken_limit IS NOT NULL THEN
        IF quota_expire(today) > 0 THEN  -- somebody had died with calls in his hands: look again
            again := quota_reserve(
                p_consumer, p_operation, p_source, p_calls, p_method, p_path, p_isbns_asked,
                p_lease, p_max_wait, p_enforce
            );
            reservation := again.reservation;
            decision := again.decision;
            RETURN;
        END IF;
        SELECT * INTO decision.free, decision.retry_at FROM quota_explain(
            decision.broken_limit, p_calls, today, consumer.cap_per_operation, consumer.left_of_budget,
            ledger.safety_limit - ledger.used - ledger.reserved, consumer.floor,
            least(consumer.cap_per_operation, consumer.daily_budget, ledger.safety_limit - consumer.floor)
        );
        IF p_enforce THEN
            decision.outcome := decision.broken_limit;
            RETURN;
        END IF;
    END IF;

    reservation := gen_random_uuid();
    decision.outcome := 'granted';
    IF p_method IS NOT NULL THEN
        decision.send_at := quota_slot(today, ledger.next_dispatch_at, now);
        decision.send_in := extract(epoch FROM decision.send_at - now);
        IF decision.send_at <= now + make_interval(secs => p_max_wait) AND decision.send_at < quota_last_slot(today) THEN
            spent := 1;
            decision.valid_for := extract(epoch FROM quota_last_slot(today) - now);
        ELSE
            decision.outcome := 'wait';
        END IF;
    END IF;

    UPDATE quota_dailyledger
    SET used = used + spent, reserved = reserved + p_calls - spent,
        next_dispatch_at = CASE WHEN spent = 1 THEN decision.send_at + quota_pace(max_rps) ELSE next_dispatch_at END
    WHERE day = today;
    UPDATE quota_consumerusage SET used = used + spent, reserved = reserved + p_calls - spent
    WHERE day = today AND consumer_id = consumer.id;
    IF NOT FOUND THEN
        INSERT INTO quota_consumerusage (day, consumer_id, used, reserved)
        VALUES (today, consumer.id, spent, p_calls - spent);
    END IF;
    INSERT INTO quota_reservation (
        id, day, consumer_id, operation, source, asked, calls, dispatched, state, created_at, expires_at
    ) VALUES (
        reservation, today, consumer.id, p_operation, p_source, p_calls, p_calls, spent, 'open', now,
        CASE WHEN spent = 1 THEN decision.send_at ELSE now END + make_interval(secs => p_lease)
    );
    IF spent = 1 THEN
        INSERT INTO quota_call (
            day, consumer_id, reservation_id, operation, calls, dispatched_at, send_at, method, path, isbns_asked,
            outcome, error
        ) VALUES (
            today, consumer.id, reservation, p_operation, 1, now, decision.send_at, p_method, p_path, p_isbns_asked,
            'unknown', ''
        ) RETURNING id INTO decision.call;
    END IF;
END $$;

-- Spends one call of an open reservation: moves it from reserved to used, gives it the next moment of the pace and
-- writes its journal row. When that moment is further away than p_max_wait the outcome is 'wait' and nothing is spent.
CREATE FUNCTION quota_dispatch(
    p_reservation uuid, p_method text, p_path text, p_isbns_asked integer,
    p_lease double precision, p_max_wait double precision, p_enforce boolean
) RETURNS quota_decision LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    ledger quota_dailyledger;
    r quota_reservation;
    standing text;
    decision quota_decision;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    SELECT * INTO ledger FROM quota_dailyledger
    WHERE day = (SELECT day FROM quota_reservation WHERE id = p_reservation) FOR NO KEY UPDATE;
    SELECT * INTO r FROM quota_reservation WHERE id = p_reservation;
    now := quota_now();
    decision.day := r.day;
    IF r.id IS NULL OR r.state <> 'open' OR r.expires_at <= now OR r.day <> quota_day(now) THEN
        decision.outcome := 'closed';
        RETURN decision;
    ELSIF r.dispatched = r.calls THEN
        decision.outcome := 'spent';
        RETURN decision;
    END IF;
    SELECT quota_standing(c.active, c.kind) INTO standing FROM quota_consumer c WHERE c.id = r.consumer_id;
    IF standing IS NOT NULL THEN
        decision.outcome := standing;
        RETURN decision;
    END IF;

    decision.send_at := quota_slot(r.day, ledger.next_dispatch_at, now);
    IF decision.send_at >= quota_last_slot(r.day) THEN
        decision.broken_limit := 'midnight';
        decision.retry_at := quota_midnight(r.day + 1) + quota_midnight_guard();
        decision.send_at := decision.retry_at;
    ELSIF ledger.closed_at IS NOT NULL THEN
        decision.broken_limit := 'day_closed';
        decision.retry_at := quota_midnight(r.day + 1);
    ELSIF ledger.used >= ledger.safety_limit THEN  -- calls made outside were recorded since it was set aside
        decision.broken_limit := 'safety_limit';
        decision.retry_at := quota_midnight(r.day + 1);
    END IF;
    decision.send_in := extract(epoch FROM decision.send_at - now);
    IF decision.broken_limit IS NOT NULL AND p_enforce THEN
        decision.outcome := decision.broken_limit;
        decision.free := 0;
        RETURN decision;
    ELSIF decision.broken_limit = 'midnight' OR decision.send_at > now + make_interval(secs => p_max_wait) THEN
        decision.outcome := 'wait';
        RETURN decision;
    END IF;

    UPDATE quota_dailyledger
    SET used = used + 1, reserved = reserved - 1, next_dispatch_at = decision.send_at + quota_pace(max_rps)
    WHERE day = r.day;
    UPDATE quota_consumerusage SET used = used + 1, reserved = reserved - 1
    WHERE day = r.day AND consumer_id = r.consumer_id;
    UPDATE quota_reservation
    SET dispatched = dispatched + 1, expires_at = greatest(expires_at, decision.send_at + make_interval(secs => p_lease))
    WHERE id = r.id;
    INSERT INTO quota_call (
        day, consumer_id, reservation_id, operation, calls, dispatched_at, send_at, method, path, isbns_asked,
        outcome, error
    ) VALUES (
        r.day, r.consumer_id, r.id, r.operation, 1, now, decision.send_at, p_method, p_path, p_isbns_asked,
        'unknown', ''
    ) RETURNING id INTO decision.call;
    decision.valid_for := extract(epoch FROM quota_last_slot(r.day) - now);
    decision.outcome := 'granted';
    RETURN decision;
END $$;

-- Adds calls to an open reservation (a retry costs one more), under the same limits.
CREATE FUNCTION quota_extend(
    p_reservation uuid, p_calls integer, p_lease double precision, p_enforce boolean
) RETURNS quota_decision LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    ledger quota_dailyledger;
    consumer record;
    r quota_reservation;
    decision quota_decision;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    SELECT l.* INTO ledger FROM quota_dailyledger l
    WHERE l.day = (SELECT day FROM quota_reservation WHERE id = p_reservation) FOR NO KEY UPDATE;
    SELECT * INTO r FROM quota_reservation WHERE id = p_reservation;
    now := quota_now();
    decision.day := r.day;
    IF r.id IS NULL OR r.state <> 'open' OR r.expires_at <= now OR r.day <> quota_day(now) THEN
        decision.outcome := 'closed';
        RETURN decision;
    END IF;
    SELECT quota_standing(c.active, c.kind) AS standing, c.floor, c.daily_budget,
        c.cap_per_operation - r.calls AS left_of_operation,
        c.daily_budget - coalesce(u.used + u.reserved, 0) AS left_of_budget
    INTO consumer
    FROM quota_consumer c LEFT JOIN quota_consumerusage u ON u.consumer_id = c.id AND u.day = r.day
    WHERE c.id = r.consumer_id;
    IF consumer.standing IS NOT NULL THEN
        decision.outcome := consumer.standing;
        RETURN decision;
    END IF;
    decision.broken_limit := quota_broken_limit(
        p_calls, ledger.closed_at IS NOT NULL, now, r.day, consumer.left_of_operation, consumer.left_of_budget,
        ledger.safety_limit - ledger.used - ledger.reserved, consumer.floor
    );
    IF decision.broken_limit IS NOT NULL THEN
        IF quota_expire(r.day) > 0 THEN  -- as in quota_reserve
            RETURN quota_extend(p_reservation, p_calls, p_lease, p_enforce);
        END IF;
        SELECT * INTO decision.free, decision.retry_at FROM quota_explain(
            decision.broken_limit, p_calls, r.day, consumer.left_of_operation, consumer.left_of_budget,
            ledger.safety_limit - ledger.used - ledger.reserved, consumer.floor,
            least(consumer.left_of_operation, consumer.daily_budget, ledger.safety_limit - consumer.floor)
        );
        IF p_enforce THEN
            decision.outcome := decision.broken_limit;
            RETURN decision;
        END IF;
    END IF;
    PERFORM quota_post(r.day, r.consumer_id, 0, p_calls);
    UPDATE quota_reservation SET calls = calls + p_calls, expires_at = greatest(expires_at, now + make_interval(secs => p_lease))
    WHERE id = r.id;
    decision.outcome := 'granted';
    RETURN decision;
END $$;

-- Gives back what an open reservation has set aside beyond p_left calls still to be dispatched. Returns how many.
CREATE FUNCTION quota_shrink(p_reservation uuid, p_left integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    r quota_reservation;
    back integer;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    PERFORM FROM quota_dailyledger
    WHERE day = (SELECT day FROM quota_reservation WHERE id = p_reservation) FOR NO KEY UPDATE;
    SELECT * INTO r FROM quota_reservation WHERE id = p_reservation AND state = 'open';
    back := r.calls - r.dispatched - p_left;
    IF back IS NULL OR back <= 0 THEN
        RETURN 0;
    END IF;
    UPDATE quota_reservation SET calls = calls - back WHERE id = r.id;
    PERFORM quota_post(r.day, r.consumer_id, 0, -back);
    RETURN back;
END $$;

-- Closes a reservation and gives back what was never dispatched; no change when it is closed already.
-- Returns how many calls went back.
CREATE FUNCTION quota_settle(p_reservation uuid) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    r quota_reservation;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    PERFORM FROM quota_dailyledger
    WHERE day = (SELECT day FROM quota_reservation WHERE id = p_reservation) FOR NO KEY UPDATE;
    SELECT * INTO r FROM quota_reservation WHERE id = p_reservation AND state = 'open';
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    PERFORM quota_close(r, 'settled', quota_now());
    RETURN r.calls - r.dispatched;
END $$;

-- Records calls that were made outside, past any limit: what was spent is spent. False: today's ledger is not open.
CREATE FUNCTION quota_increment(p_consumer text, p_operation text, p_calls integer, p_note text)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    today date;
    payer bigint;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    LOOP
        today := quota_day(quota_now());
        PERFORM FROM quota_dailyledger WHERE day = today FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
        now := quota_now();
        EXIT WHEN today = quota_day(now);
    END LOOP;
    SELECT id INTO STRICT payer FROM quota_consumer WHERE slug = p_consumer;
    PERFORM quota_post(today, payer, p_calls, 0);
    INSERT INTO quota_call (
        day, consumer_id, operation, calls, dispatched_at, send_at, method, path, outcome, error
    ) VALUES (
        today, payer, p_operation, p_calls, now, now, '', '', 'external', p_note
    );
    RETURN true;
END $$;

-- Puts calls, which may be negative, on a day's ledger and journal, past any limit. Null, and no change, when that day
-- has no ledger; the id of the journal row otherwise. What a consumer has used can't fall below 0: its constraint says so.
CREATE FUNCTION quota_correct(
    p_day date, p_consumer bigint, p_operation text, p_calls integer, p_outcome text, p_note text
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    written bigint;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    PERFORM FROM quota_dailyledger WHERE day = p_day FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    now := quota_now();
    PERFORM quota_post(p_day, p_consumer, p_calls, 0);
    INSERT INTO quota_call (
        day, consumer_id, operation, calls, dispatched_at, send_at, method, path, outcome, error
    ) VALUES (
        p_day, p_consumer, p_operation, p_calls, now, now, '', '', p_outcome, p_note
    ) RETURNING id INTO written;
    RETURN written;
END $$;

-- Gives nobody a send time for so many seconds. False: today's ledger is not open.
CREATE FUNCTION quota_slow_down(p_seconds double precision) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    today date;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    LOOP
        today := quota_day(quota_now());
        PERFORM FROM quota_dailyledger WHERE day = today FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
        now := quota_now();
        EXIT WHEN today = quota_day(now);
    END LOOP;
    UPDATE quota_dailyledger SET next_dispatch_at = greatest(next_dispatch_at, now + make_interval(secs => p_seconds))
    WHERE day = today;
    RETURN true;
END $$;

-- Ends the day for everybody. False: it had ended before.
CREATE FUNCTION quota_close_day(p_day date, p_reason text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    UPDATE quota_dailyledger SET closed_at = quota_now(), closed_reason = p_reason
    WHERE day = p_day AND closed_at IS NULL;
    RETURN FOUND;
END $$;

-- Gives today's ledger other limits. Null when it is not open; otherwise its day.
CREATE FUNCTION quota_apply_limits(p_daily_limit integer, p_safety_buffer integer, p_max_rps integer)
RETURNS date LANGUAGE plpgsql AS $$
DECLARE
    today date;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    UPDATE quota_dailyledger
    SET daily_limit = p_daily_limit, safety_buffer = p_safety_buffer, max_rps = p_max_rps
    WHERE day = quota_day(quota_now()) RETURNING day INTO today;
    RETURN today;
END $$;

-- Holds ISBNdb's count of p_day, as of p_answered_at, against ours of that moment, and raises ours when it is lower.
-- A count of null is not held against anything. `used` is ours at that moment, before it was raised: whatever was
-- dispatched by then may have arrived, and what is put right by others since is in it, so that nothing is raised twice.
CREATE FUNCTION quota_reconcile(
    p_call bigint, p_day date, p_spent integer, p_answered_at timestamptz, p_consumer bigint, p_note text,
    OUT used integer, OUT raised integer
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    SELECT l.used INTO used FROM quota_dailyledger l WHERE day = p_day FOR NO KEY UPDATE;
    SELECT used - count(*) INTO used FROM quota_call
    WHERE day = p_day AND id > p_call AND reservation_id IS NOT NULL AND dispatched_at > p_answered_at;
    raised := greatest(0, coalesce(p_spent - used, 0));
    IF raised > 0 THEN
        PERFORM quota_correct(p_day, p_consumer, 'reconciliation', raised, 'external', p_note);
    END IF;
END $$;
