-- All functions of the quota, each once: everything that changes a ledger, a consumer's usage or a reservation.
--
-- docs/adr/0002-ledger-functions-in-sql.md says why this is SQL.
--
-- Every function that writes runs as one statement in a transaction of its own. It locks the ledger row of the day,
-- then looks, then writes. Under READ COMMITTED each statement of a PL/pgSQL function takes a new snapshot, so the
-- function reads what was committed when the lock was granted. No decision uses old figures. The row lock is the only
-- lock that a function waits for, for 2 seconds at most, and it is held for one statement: no client can keep it.
-- (Each function sets lock_timeout itself. A SET clause would do the same and cost 100 microseconds a call.)
--
-- To change a function, edit it here and add a migration that runs this file again, as the newest one does;
-- tests/quota/test_functions.py fails until you do, and says how. The file drops all functions and creates them again, so
-- it can run on any earlier version. A migration is one transaction: no other session sees the functions missing.


-- ---------------------------------------------------------------------------------------------------------------------
-- Remove the earlier version
-- ---------------------------------------------------------------------------------------------------------------------

DO $$
DECLARE
    item text;
BEGIN
    FOR item IN
        SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND starts_with(proname, 'quota_')
    LOOP
        EXECUTE 'DROP FUNCTION ' || item;
    END LOOP;
    DROP TYPE IF EXISTS quota_decision;
END $$;


-- ---------------------------------------------------------------------------------------------------------------------
-- Time: the clock, the day, midnight, the pace
-- ---------------------------------------------------------------------------------------------------------------------

-- The only clock. It decides the day and the pace.
CREATE FUNCTION quota_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

CREATE FUNCTION quota_day(moment timestamptz) RETURNS date LANGUAGE sql IMMUTABLE
AS $$ SELECT (moment AT TIME ZONE 'UTC')::date $$;

-- The midnight at which a UTC day begins.
CREATE FUNCTION quota_midnight(day date) RETURNS timestamptz LANGUAGE sql IMMUTABLE
AS $$ SELECT day::timestamp AT TIME ZONE 'UTC' $$;

-- No call is sent within this time before or after midnight, because ISBNdb's clock may differ from ours.
CREATE FUNCTION quota_midnight_guard() RETURNS interval LANGUAGE sql IMMUTABLE AS $$ SELECT interval '2 seconds' $$;

-- The end of the day's send times: every call of the day is sent before this moment.
CREATE FUNCTION quota_last_slot(day date) RETURNS timestamptz
LANGUAGE sql IMMUTABLE AS $$ SELECT quota_midnight(day + 1) - quota_midnight_guard() $$;

-- The time between two calls. It is 5 percent longer than 1 second / max_rps, because the network shifts the calls a
-- little, and still no second should see more than max_rps of them.
CREATE FUNCTION quota_pace(max_rps integer) RETURNS interval
LANGUAGE sql IMMUTABLE AS $$ SELECT interval '1.05 seconds' / max_rps $$;

-- How many intervals of the pace ahead of now a slot is given out at most. Little is then under way when ISBNdb asks us to
-- slow down, and a request for which somebody waits finds the slot after the one that background work took.
CREATE FUNCTION quota_slots_ahead(urgent boolean) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN urgent THEN 2 ELSE 1 END $$;

-- When a later retry can succeed after this limit has refused calls of the day.
CREATE FUNCTION quota_retry_at(broken_limit text, day date) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT quota_midnight(day + 1) + CASE WHEN broken_limit = 'midnight' THEN quota_midnight_guard() ELSE interval '0' END
$$;


-- ---------------------------------------------------------------------------------------------------------------------
-- Rules: switches and limits
-- ---------------------------------------------------------------------------------------------------------------------

-- Whether the limits refuse calls: what the switches say, or else the default from the environment.
CREATE FUNCTION quota_enforces(p_default text) RETURNS boolean LANGUAGE sql STABLE
AS $$ SELECT coalesce((SELECT nullif(enforcement, '') FROM quota_switches), p_default) = 'enforce' $$;

-- The switch that refuses every call of the consumer, before any limit is checked; null when there is none.
CREATE FUNCTION quota_switched_off(p_active boolean, p_kind text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN NOT p_active THEN 'inactive'
        WHEN p_kind <> 'api' AND EXISTS (SELECT FROM quota_switches WHERE NOT harvest_enabled) THEN 'harvest_off'
    END
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Prices: the calls that ISBNdb takes off the day's plan for one request
-- ---------------------------------------------------------------------------------------------------------------------

-- The table of prices. The kinds are those of quota/prices.py.
CREATE FUNCTION quota_price(p_kind text, p_isbns integer, p_batch_price text, p_key_price integer) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_kind
        WHEN 'batch' THEN CASE WHEN p_batch_price = 'request' THEN 1 ELSE p_isbns END  -- while it is unknown: the higher
        WHEN 'feed' THEN 0
        WHEN 'key' THEN p_key_price
        ELSE 1
    END
$$;

-- What one of several consumers pays for a batch that holds ISBNs of each: by the request, the first of them pays all of
-- it; by the ISBN, each pays its own.
CREATE FUNCTION quota_share(p_isbns integer, p_is_first boolean, p_batch_price text) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN p_batch_price = 'request' THEN p_is_first::integer ELSE p_isbns END $$;

-- The prices in force: of a batch ('request', 'isbn', or 'unknown' until it is measured), and of GET /key (1 until it is
-- measured). A person can set the price of a batch with the switches; p_default comes from the environment.
CREATE FUNCTION quota_prices(p_default text, OUT batch_price text, OUT key_price integer) LANGUAGE sql STABLE AS $$
    SELECT
        CASE
            WHEN chosen <> 'measure' THEN chosen
            ELSE coalesce(
                (SELECT m.batch_price FROM quota_pricemeasurement m WHERE m.batch_price <> '' ORDER BY id DESC LIMIT 1),
                'unknown'
            )
        END,
        coalesce(
            (SELECT m.key_price FROM quota_pricemeasurement m WHERE m.key_price IS NOT NULL ORDER BY id DESC LIMIT 1), 1
        )
    FROM (SELECT coalesce((SELECT nullif(s.batch_price, '') FROM quota_switches s), p_default) AS chosen) AS switch
$$;


-- ---------------------------------------------------------------------------------------------------------------------
-- What a consumer may take
-- ---------------------------------------------------------------------------------------------------------------------

-- What a consumer may take of a day. This is the only place that computes it: quota_reserve and quota_extend decide by
-- it, and quota/selectors/allowances.py shows and forecasts by it.
--
-- A limit that is null does not exist: a comparison with null is never true, and least() ignores null.
--
-- Each OFFSET 0 makes PostgreSQL compute a figure once. Without it, the planner copies the expression to every place that
-- uses it, and those again: a decision then takes a third more of the server's CPU time.
CREATE FUNCTION quota_allowance(
    p_consumer quota_consumer,
    p_usage quota_consumerusage,  -- what the consumer has used and reserved on the day; null: nothing
    p_day date,
    p_now timestamptz,
    p_day_closed boolean,
    p_safety_limit integer,
    p_used integer,               -- by all consumers
    p_reserved integer,           -- by all consumers
    p_calls integer DEFAULT NULL, -- calls requested; null: one more than are free; 0: for free requests
    p_taken integer DEFAULT 0     -- calls that the operation holds already
) RETURNS TABLE (
    switched_off text,            -- the switch that refuses every call; null: none
    free integer,                 -- calls that the operation can take now
    free_today integer,           -- calls that the consumer can take today, in any number of operations
    free_if_released integer,     -- as free_today, if every reserved call went back
    free_a_day integer,           -- calls that a day on which nothing is used or reserved grants
    broken_limit text,            -- the limit that refuses the requested calls; null: none
    retry_at timestamptz          -- when a retry can succeed after a refusal; null: never
) LANGUAGE sql STABLE AS $$
    SELECT
        quota_switched_off((p_consumer).active, (p_consumer).kind),
        today.free,
        CASE WHEN today.free > 0 THEN least(of_budget, above_floor) ELSE 0 END,
        CASE WHEN p_day_closed THEN 0 ELSE greatest(0, least(of_budget_if_released, above_floor_if_released)) END,
        greatest(0, a_day),
        request.broken_limit,
        CASE WHEN calls <= least(of_operation, a_day) THEN quota_retry_at(request.broken_limit, p_day) END
    FROM (
        SELECT
            p_now >= quota_last_slot(p_day) AS too_late,
            (p_consumer).cap_per_operation - p_taken AS of_operation,
            (p_consumer).daily_budget - coalesce((p_usage).used + (p_usage).reserved, 0) AS of_budget,
            p_safety_limit - p_used - p_reserved AS of_day,
            p_safety_limit - p_used - p_reserved - (p_consumer).floor AS above_floor,
            (p_consumer).daily_budget - coalesce((p_usage).used, 0) AS of_budget_if_released,
            p_safety_limit - p_used - (p_consumer).floor AS above_floor_if_released,
            least((p_consumer).daily_budget, p_safety_limit - (p_consumer).floor) AS a_day
        OFFSET 0
    ) AS what_is_left
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN p_day_closed OR too_late THEN 0 ELSE greatest(0, least(of_operation, of_budget, above_floor))
        END AS free
        OFFSET 0
    ) AS today
    CROSS JOIN LATERAL (SELECT coalesce(p_calls, today.free + 1) AS calls OFFSET 0) AS wanted
    CROSS JOIN LATERAL (
        SELECT CASE  -- in the order of quota/limits.py
            WHEN p_day_closed AND calls > 0 THEN 'day_closed'
            WHEN too_late THEN 'midnight'
            WHEN calls = 0 THEN NULL
            WHEN calls > of_operation THEN 'cap_per_operation'
            WHEN calls > of_budget THEN 'daily_budget'
            WHEN calls > of_day THEN 'safety_limit'
            WHEN calls > above_floor THEN 'floor'
        END AS broken_limit
        OFFSET 0
    ) AS request
$$;


-- ---------------------------------------------------------------------------------------------------------------------
-- Steps that several functions share. The caller holds the lock of the day's ledger.
-- ---------------------------------------------------------------------------------------------------------------------

-- Locks today's ledger and returns the moment of the lock; null when today's ledger is not open.
CREATE FUNCTION quota_lock_today() RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    today date;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    LOOP
        today := quota_day(quota_now());
        PERFORM FROM quota_dailyledger WHERE day = today FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        now := quota_now();
        IF today = quota_day(now) THEN  -- otherwise midnight has passed while we waited for the lock
            RETURN now;
        END IF;
    END LOOP;
END $$;

-- Adds to used and reserved (either may be negative) of the ledger and of the consumer's usage.
CREATE FUNCTION quota_post(p_day date, p_consumer bigint, p_used integer, p_reserved integer)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE quota_dailyledger SET used = used + p_used, reserved = reserved + p_reserved WHERE day = p_day;
    UPDATE quota_consumerusage SET used = used + p_used, reserved = reserved + p_reserved
    WHERE day = p_day AND consumer_id = p_consumer;
    IF NOT FOUND THEN
        INSERT INTO quota_consumerusage (day, consumer_id, used, reserved, requests)
        VALUES (p_day, p_consumer, p_used, p_reserved, 0);
    END IF;
END $$;

-- Whether a request may be sent while the day is closed: ISBNdb's own counter tells when calls are left again.
CREATE FUNCTION quota_goes_out_when_closed(p_kind text) RETURNS boolean LANGUAGE sql IMMUTABLE
AS $$ SELECT coalesce(p_kind = 'key', false) $$;

-- Whether a journal row is a question for ISBNdb's own counter.
CREATE FUNCTION quota_is_question(path text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT path LIKE '%/key' $$;

-- Whether a request passes the limits, because the day is closed: one question for ISBNdb's own counter in nine minutes.
-- When a day is closed, our count is often above the safety limit, because a reconciliation has raised it. Without these
-- questions nobody would see that calls are left again. They are charged, out of the safety buffer.
CREATE FUNCTION quota_passes_limits(p_kind text, p_closed_at timestamptz, p_day date, p_now timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT p_closed_at IS NOT NULL AND quota_goes_out_when_closed(p_kind) AND NOT EXISTS (
        SELECT FROM quota_call
        WHERE day = p_day AND quota_is_question(path) AND dispatched_at > greatest(p_closed_at, p_now - interval '9 minutes')
    )
$$;

-- Decides who gets the next slot of the pace. This is the only place that does. A slot is the send time of one request. If
-- the consumer may take it now, retry_at is null, and the caller writes send_at into the ledger and the consumer's usage.
-- If not, retry_at is when another try makes sense: when the slot is near enough, or when the one that goes first should
-- have taken it. The consumer's usage must exist.
--
-- p_urgent: somebody waits for the answer. Otherwise it is background work, which gives way to everybody who waits
-- urgently. But after six intervals without a slot it counts as urgent, so that it never starves. Among equally
-- urgent consumers, the one whose last slot is oldest goes first, however many processes it has.
--
-- Whoever has to wait leaves a mark, for others to give way. The mark ends at the send time of the slot that its consumer
-- can have at its next try, so that a process that has died holds nobody up. Nobody gives way when the send time has
-- come: no slot is lost because its consumer is late.
CREATE FUNCTION quota_take_slot(
    ledger quota_dailyledger, p_consumer bigint, p_reservation uuid, p_urgent boolean, p_now timestamptz,
    OUT send_at timestamptz, OUT retry_at timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    pace interval := quota_pace(ledger.max_rps);
    urgent boolean := p_urgent OR coalesce(ledger.background_slot_at, ledger.opened_at) < p_now - 6 * pace;
    ahead interval := quota_slots_ahead(urgent) * pace;
    is_probe boolean := ledger.probe_by = p_reservation AND ledger.probe_until > p_now;
BEGIN
    send_at := greatest(
        p_now, ledger.next_dispatch_at,
        quota_midnight(ledger.day) + quota_midnight_guard(),  -- the first request of a day also stays clear of midnight
        CASE WHEN ledger.probe_by IS DISTINCT FROM p_reservation THEN ledger.probe_until END
    );
    IF send_at > p_now + ahead THEN
        retry_at := send_at - ahead;
    ELSIF send_at > p_now AND is_probe IS NOT TRUE AND EXISTS (
        SELECT FROM quota_consumerusage other
        JOIN quota_consumerusage own ON own.day = ledger.day AND own.consumer_id = p_consumer
        CROSS JOIN LATERAL (
            SELECT own.last_slot_at > coalesce(other.last_slot_at, '-infinity') AND other.id <> own.id AS has_the_turn
        ) AS turn
        WHERE other.day = ledger.day AND CASE
            WHEN urgent THEN other.urgent_wait_until > p_now AND has_the_turn
            ELSE other.urgent_wait_until > p_now OR other.background_wait_until > p_now AND has_the_turn
        END
    ) THEN
        -- Once the other has taken this slot, the next one is near enough at one of these moments.
        retry_at := CASE WHEN urgent AND p_now < send_at - pace THEN send_at - pace ELSE send_at END;
    END IF;
    IF retry_at IS NOT NULL THEN
        UPDATE quota_consumerusage SET
            urgent_wait_until = CASE WHEN urgent THEN retry_at + ahead ELSE urgent_wait_until END,
            background_wait_until = CASE WHEN urgent THEN background_wait_until ELSE retry_at + ahead END
        WHERE day = ledger.day AND consumer_id = p_consumer;
    END IF;
END $$;

-- Closes an open reservation and gives back the calls that were not dispatched.
CREATE FUNCTION quota_close(r quota_reservation, p_state text, now timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE quota_reservation SET state = p_state, closed_at = now WHERE id = r.id;
    IF r.calls > r.dispatched THEN
        PERFORM quota_post(p_day => r.day, p_consumer => r.consumer_id, p_used => 0, p_reserved => r.dispatched - r.calls);
    END IF;
END $$;

-- Locks the day's ledger. Closes the reservations whose lease has run out or, on a past day, all of them. Returns how
-- many it closed.
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


-- ---------------------------------------------------------------------------------------------------------------------
-- The life of a call: reserve, dispatch, extend, shrink, settle
-- ---------------------------------------------------------------------------------------------------------------------

CREATE TYPE quota_decision AS (
    outcome text,            -- granted | wait | unopened | unknown_consumer | closed | spent, or the name of the limit
                             -- or switch in quota/limits.py that refused the calls
    broken_limit text,       -- the limit that would have refused the calls, when limits are only observed
    asked integer,           -- calls that were requested or, if the outcome is 'spent', calls that are missing
    free integer,            -- calls that could have been granted
    retry_at timestamptz,    -- when a retry can succeed; null: never
    day date,
    call bigint,             -- the journal row
    price integer,           -- the calls that the request costs
    send_at timestamptz,
    send_in double precision,    -- seconds until the call may be sent, or until it makes sense to try again
    valid_for double precision,  -- seconds until the call must not be sent any more
    payer integer                -- if several pay for the request and one of them cannot: which of them, from 1
);

-- Reserves calls of today for one operation. With p_kind it also dispatches the first request in the same statement, if
-- quota_take_slot has a slot for it. If not, the outcome is 'wait' and the reservation stays open. It reserves at least
-- the price of that request, and returns in `asked` how many calls it has reserved.
CREATE FUNCTION quota_reserve(
    p_consumer text, p_operation text, p_source text, p_calls integer, p_lease double precision, p_enforce boolean,
    p_kind text DEFAULT NULL, p_method text DEFAULT NULL, p_path text DEFAULT NULL, p_isbns_asked integer DEFAULT NULL,
    p_urgent boolean DEFAULT NULL, p_batch_price text DEFAULT NULL,
    OUT reservation uuid, OUT decision quota_decision
) LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    today date;
    ledger quota_dailyledger;
    consumer record;
    slot record;
    sent integer := 0;   -- requests
    spent integer := 0;  -- calls
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    LOOP
        today := quota_day(quota_now());
        SELECT * INTO ledger FROM quota_dailyledger WHERE day = today FOR NO KEY UPDATE;
        now := quota_now();
        CONTINUE WHEN today <> quota_day(now);  -- midnight has passed while we waited for the lock
        IF p_kind IS NOT NULL THEN
            SELECT quota_price(p_kind, p_isbns_asked, p.batch_price, p.key_price) INTO decision.price
            FROM quota_prices(p_default => p_batch_price) p;
        END IF;
        decision.asked := greatest(p_calls, decision.price);
        SELECT c.id, u.id AS usage, a.* INTO consumer
        FROM quota_consumer c
        LEFT JOIN quota_consumerusage u ON u.consumer_id = c.id AND u.day = today
        CROSS JOIN LATERAL quota_allowance(
            p_consumer => c, p_usage => u, p_day => today, p_now => now,
            p_day_closed => ledger.closed_at IS NOT NULL AND NOT quota_goes_out_when_closed(p_kind),
            p_safety_limit => ledger.safety_limit, p_used => ledger.used, p_reserved => ledger.reserved,
            p_calls => CASE
                WHEN quota_passes_limits(p_kind, ledger.closed_at, today, now) THEN 0 ELSE decision.asked
            END
        ) a
        WHERE c.slug = p_consumer;
        EXIT WHEN ledger.day IS NULL OR consumer.switched_off IS NOT NULL OR consumer.broken_limit IS NULL;
        EXIT WHEN quota_expire(today) = 0;  -- otherwise a process has died and its calls are free again: look again
    END LOOP;

    decision.day := today;
    decision.outcome := CASE
        WHEN ledger.day IS NULL THEN 'unopened'
        WHEN consumer.id IS NULL THEN 'unknown_consumer'
        ELSE consumer.switched_off
    END;
    IF decision.outcome IS NOT NULL THEN
        RETURN;
    END IF;
    IF consumer.broken_limit IS NOT NULL THEN
        decision.broken_limit := consumer.broken_limit;
        decision.free := consumer.free;
        decision.retry_at := consumer.retry_at;
        IF p_enforce THEN
            decision.outcome := consumer.broken_limit;
            RETURN;
        END IF;
    END IF;

    reservation := gen_random_uuid();
    decision.outcome := 'granted';
    IF consumer.usage IS NULL THEN
        PERFORM quota_post(p_day => today, p_consumer => consumer.id, p_used => 0, p_reserved => 0);
    END IF;
    IF p_kind IS NOT NULL THEN
        slot := quota_take_slot(ledger, consumer.id, reservation, p_urgent, now);
        decision.send_at := slot.send_at;
        decision.send_in := extract(epoch FROM coalesce(slot.retry_at, slot.send_at) - now);
        IF slot.retry_at IS NULL AND slot.send_at < quota_last_slot(today) THEN
            sent := 1;
            spent := decision.price;
            decision.valid_for := extract(epoch FROM quota_last_slot(today) - now);
        ELSE
            decision.outcome := 'wait';
        END IF;
    END IF;

    UPDATE quota_dailyledger
    SET used = used + spent, reserved = reserved + decision.asked - spent, requests = requests + sent,
        next_dispatch_at = CASE WHEN sent = 1 THEN decision.send_at + quota_pace(max_rps) ELSE next_dispatch_at END,
        background_slot_at = CASE WHEN sent = 1 AND NOT p_urgent THEN decision.send_at ELSE background_slot_at END
    WHERE day = today;
    UPDATE quota_consumerusage
    SET used = used + spent, reserved = reserved + decision.asked - spent, requests = requests + sent,
        last_slot_at = CASE WHEN sent = 1 THEN decision.send_at ELSE last_slot_at END
    WHERE day = today AND consumer_id = consumer.id;
    INSERT INTO quota_reservation (
        id, day, consumer_id, operation, source, asked, calls, dispatched, state, created_at, expires_at
    ) VALUES (
        reservation, today, consumer.id, p_operation, p_source, decision.asked, decision.asked, spent, 'open', now,
        CASE WHEN sent = 1 THEN decision.send_at ELSE now END + make_interval(secs => p_lease)
    );
    IF sent = 1 THEN
        INSERT INTO quota_call (
            day, consumer_id, reservation_id, operation, calls, dispatched_at, send_at, method, path, isbns_asked,
            outcome, error
        ) VALUES (
            today, consumer.id, reservation, p_operation, spent, now, decision.send_at, p_method, p_path, p_isbns_asked,
            'unknown', ''
        ) RETURNING id INTO decision.call;
    END IF;
END $$;

-- Spends the price of one request of an open reservation: moves it from reserved to used, gives the request the next slot
-- of the pace and writes its journal row. If quota_take_slot has no slot for it now, the outcome is 'wait' and nothing is
-- spent. If the reservation holds fewer calls than the price, the outcome is 'spent'.
--
-- p_share is for quota_dispatch_shared: what this reservation pays, when others pay the rest of the price.
CREATE FUNCTION quota_dispatch(
    p_reservation uuid, p_kind text, p_method text, p_path text, p_isbns_asked integer,
    p_lease double precision, p_urgent boolean, p_enforce boolean, p_batch_price text,
    p_share integer DEFAULT NULL
) RETURNS quota_decision LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    ledger quota_dailyledger;
    r quota_reservation;
    price integer;  -- of the whole request, with the shares of others
    switched_off text;
    slot record;
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
    END IF;
    SELECT quota_price(p_kind, p_isbns_asked, p.batch_price, p.key_price) INTO price
    FROM quota_prices(p_default => p_batch_price) p;
    decision.price := coalesce(p_share, price);
    IF r.dispatched + decision.price > r.calls THEN
        decision.outcome := 'spent';
        decision.asked := r.dispatched + decision.price - r.calls;
        RETURN decision;
    END IF;
    decision.asked := decision.price;
    SELECT quota_switched_off(c.active, c.kind) INTO switched_off FROM quota_consumer c WHERE c.id = r.consumer_id;
    IF switched_off IS NOT NULL THEN
        decision.outcome := switched_off;
        RETURN decision;
    END IF;

    -- The calls are reserved, so no limit of the consumer is checked again. Only the day itself can still refuse them.
    slot := quota_take_slot(ledger, r.consumer_id, r.id, p_urgent, now);
    IF slot.send_at >= quota_last_slot(r.day) THEN
        decision.broken_limit := 'midnight';
        slot.retry_at := quota_retry_at('midnight', r.day);
    ELSIF ledger.closed_at IS NOT NULL AND price > 0 AND NOT quota_goes_out_when_closed(p_kind) THEN
        decision.broken_limit := 'day_closed';
    ELSIF price > 0 AND ledger.used + price > ledger.safety_limit
        AND NOT quota_passes_limits(p_kind, ledger.closed_at, r.day, now)
    THEN
        decision.broken_limit := 'safety_limit';  -- calls made outside were recorded after the reservation
    END IF;
    decision.send_at := slot.send_at;
    decision.send_in := extract(epoch FROM coalesce(slot.retry_at, slot.send_at) - now);
    IF decision.broken_limit IS NOT NULL THEN
        decision.retry_at := quota_retry_at(decision.broken_limit, r.day);
    END IF;
    IF decision.broken_limit IS NOT NULL AND p_enforce THEN
        decision.outcome := decision.broken_limit;
        decision.free := 0;
        RETURN decision;
    ELSIF slot.retry_at IS NOT NULL THEN
        decision.outcome := 'wait';
        RETURN decision;
    END IF;

    UPDATE quota_dailyledger
    SET used = used + decision.price, reserved = reserved - decision.price, requests = requests + 1,
        next_dispatch_at = decision.send_at + quota_pace(max_rps),
        background_slot_at = CASE WHEN p_urgent THEN background_slot_at ELSE decision.send_at END
    WHERE day = r.day;
    UPDATE quota_consumerusage
    SET used = used + decision.price, reserved = reserved - decision.price, requests = requests + 1,
        last_slot_at = decision.send_at
    WHERE day = r.day AND consumer_id = r.consumer_id;
    UPDATE quota_reservation
    SET dispatched = dispatched + decision.price,
        expires_at = greatest(expires_at, decision.send_at + make_interval(secs => p_lease))
    WHERE id = r.id;
    INSERT INTO quota_call (
        day, consumer_id, reservation_id, operation, calls, dispatched_at, send_at, method, path, isbns_asked,
        outcome, error
    ) VALUES (
        r.day, r.consumer_id, r.id, r.operation, decision.price, now, decision.send_at, p_method, p_path, p_isbns_asked,
        'unknown', ''
    ) RETURNING id INTO decision.call;
    decision.valid_for := extract(epoch FROM quota_last_slot(r.day) - now);
    decision.outcome := 'granted';
    RETURN decision;
END $$;

-- Gives a request that was dispatched and not sent, because its process was late or the fleet pauses, another slot of the
-- pace. Its price stays spent. The outcome is 'wait' when quota_take_slot has no slot for it now, and the name of a limit
-- when it cannot be sent on its day any more.
CREATE FUNCTION quota_move(
    p_call bigint, p_lease double precision, p_urgent boolean, p_enforce boolean
) RETURNS quota_decision LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    ledger quota_dailyledger;
    call quota_call;
    slot record;
    decision quota_decision;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    SELECT * INTO call FROM quota_call WHERE id = p_call;
    SELECT * INTO ledger FROM quota_dailyledger WHERE day = call.day FOR NO KEY UPDATE;
    now := quota_now();
    IF ledger.probe_until > now THEN  -- the probe begins when all that was dispatched before it is over
        ledger.probe_by := call.reservation_id;
    END IF;
    slot := quota_take_slot(ledger, call.consumer_id, call.reservation_id, p_urgent, now);
    decision.day := call.day;
    decision.call := call.id;
    decision.price := call.calls;
    decision.asked := 0;
    decision.broken_limit := CASE
        WHEN slot.send_at >= quota_last_slot(call.day) THEN 'midnight'
        WHEN ledger.closed_at IS NOT NULL AND call.calls > 0 AND NOT quota_is_question(call.path) AND p_enforce
            THEN 'day_closed'  -- as in quota_dispatch
    END;
    decision.send_at := slot.send_at;
    decision.send_in := extract(epoch FROM coalesce(slot.retry_at, slot.send_at) - now);
    IF decision.broken_limit IS NOT NULL THEN
        decision.outcome := decision.broken_limit;
        decision.free := 0;
        decision.retry_at := quota_retry_at(decision.broken_limit, call.day);
        RETURN decision;
    ELSIF slot.retry_at IS NOT NULL THEN
        decision.outcome := 'wait';
        RETURN decision;
    END IF;
    UPDATE quota_dailyledger
    SET next_dispatch_at = slot.send_at + quota_pace(max_rps),
        background_slot_at = CASE WHEN p_urgent THEN background_slot_at ELSE slot.send_at END
    WHERE day = call.day;
    UPDATE quota_consumerusage SET last_slot_at = slot.send_at WHERE day = call.day AND consumer_id = call.consumer_id;
    UPDATE quota_reservation SET expires_at = greatest(expires_at, slot.send_at + make_interval(secs => p_lease))
    WHERE id = call.reservation_id;
    UPDATE quota_call SET send_at = slot.send_at WHERE id = call.id;
    decision.valid_for := extract(epoch FROM quota_last_slot(call.day) - now);
    decision.outcome := 'granted';
    RETURN decision;
END $$;

-- Dispatches one batch that holds ISBNs of several consumers, and lets each pay its share in the same statement: one
-- request, one send time, one journal row of the request. Each other payer has a journal row that points to it (share_of).
--
-- p_reservations: one for each payer; null for one that has reserved nothing yet. p_isbns: how many of the ISBNs are its
-- own. The first payer dispatches the request, as in quota_dispatch. If one of them cannot pay its share, nothing is spent,
-- and `payer` says which: 'spent' (it holds too few calls), 'closed', or the switch that refuses it.
CREATE FUNCTION quota_dispatch_shared(
    p_reservations uuid[], p_isbns integer[], p_method text, p_path text,
    p_lease double precision, p_urgent boolean, p_enforce boolean, p_batch_price text
) RETURNS quota_decision LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    share record;
    decision quota_decision;
    asked integer := (SELECT sum(isbns) FROM unnest(p_isbns) AS isbns);
    shares integer[];  -- in calls, in the order of the payers
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    PERFORM FROM quota_dailyledger
    WHERE day = (SELECT day FROM quota_reservation WHERE id = p_reservations[1]) FOR NO KEY UPDATE;
    now := quota_now();
    SELECT array_agg(quota_share(payer.isbns, payer.position = 1, p.batch_price) ORDER BY payer.position) INTO shares
    FROM quota_prices(p_default => p_batch_price) p, unnest(p_isbns) WITH ORDINALITY AS payer (isbns, position);
    FOR share IN
        SELECT payer.position, payer.reservation, r.state, r.day, r.expires_at,
            payer.price - coalesce(r.calls - r.dispatched, 0) AS missing,
            quota_switched_off(c.active, c.kind) AS switched_off
        FROM unnest(p_reservations, shares) WITH ORDINALITY AS payer (reservation, price, position)
        LEFT JOIN quota_reservation r ON r.id = payer.reservation
        LEFT JOIN quota_consumer c ON c.id = r.consumer_id
        WHERE payer.price > 0
        ORDER BY payer.position
    LOOP
        decision.outcome := CASE
            WHEN share.reservation IS NOT NULL AND NOT coalesce(
                share.state = 'open' AND share.expires_at > now AND share.day = quota_day(now), false
            ) THEN 'closed'
            WHEN share.missing > 0 THEN 'spent'
            ELSE share.switched_off
        END;
        IF decision.outcome IS NOT NULL THEN
            decision.payer := share.position;
            decision.day := share.day;
            decision.asked := share.missing;
            RETURN decision;
        END IF;
    END LOOP;

    decision := quota_dispatch(
        p_reservation => p_reservations[1], p_kind => 'batch', p_method => p_method, p_path => p_path,
        p_isbns_asked => asked, p_lease => p_lease, p_urgent => p_urgent, p_enforce => p_enforce,
        p_batch_price => p_batch_price, p_share => shares[1]
    );
    IF decision.outcome <> 'granted' THEN
        RETURN decision;
    END IF;
    FOR share IN
        SELECT r.*, payer.price
        FROM unnest(p_reservations[2:], shares[2:]) AS payer (reservation, price)
        JOIN quota_reservation r ON r.id = payer.reservation
        WHERE payer.price > 0
    LOOP
        PERFORM quota_post(
            p_day => share.day, p_consumer => share.consumer_id, p_used => share.price, p_reserved => -share.price
        );
        UPDATE quota_reservation
        SET dispatched = dispatched + share.price,
            expires_at = greatest(expires_at, decision.send_at + make_interval(secs => p_lease))
        WHERE id = share.id;
        INSERT INTO quota_call (
            day, consumer_id, reservation_id, share_of_id, operation, calls, dispatched_at, send_at, method, path,
            outcome, error
        ) SELECT
            day, share.consumer_id, share.id, id, share.operation, share.price, dispatched_at, send_at, method, path,
            outcome, error
        FROM quota_call WHERE id = decision.call;
        decision.price := decision.price + share.price;
    END LOOP;
    RETURN decision;
END $$;

-- Adds calls to an open reservation (a retry costs its price once more), under the same limits as quota_reserve.
CREATE FUNCTION quota_extend(
    p_reservation uuid, p_calls integer, p_lease double precision, p_enforce boolean
) RETURNS quota_decision LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    ledger quota_dailyledger;
    allowance record;
    r quota_reservation;
    decision quota_decision;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    LOOP
        SELECT l.* INTO ledger FROM quota_dailyledger l
        WHERE l.day = (SELECT day FROM quota_reservation WHERE id = p_reservation) FOR NO KEY UPDATE;
        SELECT * INTO r FROM quota_reservation WHERE id = p_reservation;
        now := quota_now();
        decision.day := r.day;
        decision.asked := p_calls;
        IF r.id IS NULL OR r.state <> 'open' OR r.expires_at <= now OR r.day <> quota_day(now) THEN
            decision.outcome := 'closed';
            RETURN decision;
        END IF;
        SELECT a.* INTO allowance
        FROM quota_consumer c
        LEFT JOIN quota_consumerusage u ON u.consumer_id = c.id AND u.day = r.day
        CROSS JOIN LATERAL quota_allowance(
            p_consumer => c, p_usage => u, p_day => r.day, p_now => now, p_day_closed => ledger.closed_at IS NOT NULL,
            p_safety_limit => ledger.safety_limit, p_used => ledger.used, p_reserved => ledger.reserved,
            p_calls => p_calls, p_taken => r.calls
        ) a
        WHERE c.id = r.consumer_id;
        EXIT WHEN allowance.switched_off IS NOT NULL OR allowance.broken_limit IS NULL;
        EXIT WHEN quota_expire(r.day) = 0;  -- as in quota_reserve
    END LOOP;

    IF allowance.switched_off IS NOT NULL THEN
        decision.outcome := allowance.switched_off;
        RETURN decision;
    END IF;
    IF allowance.broken_limit IS NOT NULL THEN
        decision.broken_limit := allowance.broken_limit;
        decision.free := allowance.free;
        decision.retry_at := allowance.retry_at;
        IF p_enforce THEN
            decision.outcome := allowance.broken_limit;
            RETURN decision;
        END IF;
    END IF;

    PERFORM quota_post(p_day => r.day, p_consumer => r.consumer_id, p_used => 0, p_reserved => p_calls);
    UPDATE quota_reservation
    SET calls = calls + p_calls, expires_at = greatest(expires_at, now + make_interval(secs => p_lease))
    WHERE id = r.id;
    decision.outcome := 'granted';
    RETURN decision;
END $$;

-- Gives back what an open reservation holds beyond p_left calls that are still to be dispatched. Returns how many calls
-- went back.
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
    PERFORM quota_post(p_day => r.day, p_consumer => r.consumer_id, p_used => 0, p_reserved => -back);
    RETURN back;
END $$;

-- Closes a reservation and gives back the calls that were not dispatched. Changes nothing when it is closed already.
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


-- ---------------------------------------------------------------------------------------------------------------------
-- The day: open it, change its limits, pause it, close it
-- ---------------------------------------------------------------------------------------------------------------------

-- Opens today's ledger and returns its day; null when it is open already. The earliest send time of the days before
-- (their pace, or a pause) also holds for the new day. The newest of them is locked, so that a pause which is being
-- written at this moment is not missed.
CREATE FUNCTION quota_open(p_daily_limit integer, p_safety_buffer integer, p_max_rps integer)
RETURNS date LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    opened date;
    before quota_dailyledger;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    PERFORM FROM quota_dailyledger
    WHERE day = (SELECT max(day) FROM quota_dailyledger WHERE day < quota_day(quota_now())) FOR NO KEY UPDATE;
    now := quota_now();
    SELECT * INTO before FROM quota_dailyledger WHERE day < quota_day(now) ORDER BY next_dispatch_at DESC LIMIT 1;
    INSERT INTO quota_dailyledger (
        day, daily_limit, safety_buffer, max_rps, used, reserved, requests, next_dispatch_at, closed_reason, opened_at,
        paused_until, paused_reason
    ) VALUES (
        quota_day(now), p_daily_limit, p_safety_buffer, p_max_rps, 0, 0, 0, greatest(now, before.next_dispatch_at), '', now,
        before.paused_until, coalesce(before.paused_reason, '')
    ) ON CONFLICT (day) DO NOTHING RETURNING day INTO opened;
    RETURN opened;
END $$;

-- Gives today's ledger other limits and returns its day; null when it is not open.
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

-- Gives out no send time within the next p_seconds. A pause of 5 seconds and more is told, with p_reason; a shorter one is
-- part of the pace. False: today's ledger is not open.
CREATE FUNCTION quota_slow_down(p_seconds double precision, p_reason text DEFAULT '') RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz := quota_lock_today();
    until timestamptz := now + make_interval(secs => p_seconds);
BEGIN
    UPDATE quota_dailyledger SET next_dispatch_at = greatest(next_dispatch_at, until) WHERE day = quota_day(now);
    UPDATE quota_dailyledger SET paused_until = until, paused_reason = p_reason
    WHERE day = quota_day(now) AND p_seconds >= 5 AND coalesce(paused_until < until, true);
    RETURN now IS NOT NULL;
END $$;

-- For p_seconds, only this reservation gets send times; 0 ends that at once. A probe of the prices needs it: nothing else
-- of ours may be sent between its requests. False, and nothing changes: the reservation is not open, or another one has
-- the pace to itself.
CREATE FUNCTION quota_hold_pace(p_reservation uuid, p_seconds double precision) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    UPDATE quota_dailyledger SET probe_by = p_reservation, probe_until = quota_now() + make_interval(secs => p_seconds)
    WHERE day = (SELECT day FROM quota_reservation WHERE id = p_reservation AND state = 'open')
        AND (probe_by IS NULL OR probe_by = p_reservation OR probe_until <= quota_now());
    RETURN FOUND;
END $$;

-- Closes the day for everybody. False: it was closed before.
CREATE FUNCTION quota_close_day(p_day date, p_reason text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    UPDATE quota_dailyledger SET closed_at = quota_now(), closed_reason = p_reason
    WHERE day = p_day AND closed_at IS NULL;
    RETURN FOUND;
END $$;

-- Opens today again after it was closed, with a record of who did it and why. Returns the id of the record; null when
-- that day is not today or not closed.
CREATE FUNCTION quota_reopen_day(p_day date, p_reason text, p_made_by bigint, p_made_with text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    ledger quota_dailyledger;
    written bigint;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    SELECT * INTO ledger FROM quota_dailyledger WHERE day = p_day FOR NO KEY UPDATE;
    now := quota_now();
    IF ledger.closed_at IS NULL OR p_day <> quota_day(now) THEN
        RETURN NULL;
    END IF;
    UPDATE quota_dailyledger SET closed_at = NULL, closed_reason = '' WHERE day = p_day;
    INSERT INTO quota_reopening (day, closed_at, closed_reason, reopened_at, reason, made_by_id, made_with)
    VALUES (p_day, ledger.closed_at, ledger.closed_reason, now, p_reason, p_made_by, p_made_with)
    RETURNING id INTO written;
    RETURN written;
END $$;

-- Gives one process the right to ask ISBNdb's counter what an unclear answer means. False: within the last p_seconds
-- another process has got that right, or the counter has answered.
CREATE FUNCTION quota_claim_settling(p_day date, p_seconds double precision) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    since timestamptz := quota_now() - make_interval(secs => p_seconds);
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    UPDATE quota_dailyledger SET settling_at = quota_now()
    WHERE day = p_day AND (settling_at IS NULL OR settling_at <= since)
        AND NOT EXISTS (SELECT FROM quota_reconciliation WHERE day = p_day AND answered_at > since);
    RETURN FOUND;
END $$;


-- ---------------------------------------------------------------------------------------------------------------------
-- Corrections: calls that were made outside, that a person corrects, or that ISBNdb counts. No limit refuses them.
-- ---------------------------------------------------------------------------------------------------------------------

-- Records calls that were made outside on today's ledger and journal. False: today's ledger is not open.
CREATE FUNCTION quota_increment(p_consumer text, p_operation text, p_calls integer, p_note text)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz := quota_lock_today();
    payer bigint;
BEGIN
    IF now IS NULL THEN
        RETURN false;
    END IF;
    SELECT id INTO STRICT payer FROM quota_consumer WHERE slug = p_consumer;
    PERFORM quota_post(p_day => quota_day(now), p_consumer => payer, p_used => p_calls, p_reserved => 0);
    INSERT INTO quota_call (
        day, consumer_id, operation, calls, dispatched_at, send_at, method, path, outcome, error
    ) VALUES (
        quota_day(now), payer, p_operation, p_calls, now, now, '', '', 'external', p_note
    );
    RETURN true;
END $$;

-- Adds calls (a negative number takes calls back) to the ledger and the journal of a day and returns the id of the
-- journal row. Returns null and changes nothing when that day has no ledger. A constraint keeps what a consumer has used
-- from falling below 0.
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
    PERFORM quota_post(p_day => p_day, p_consumer => p_consumer, p_used => p_calls, p_reserved => 0);
    INSERT INTO quota_call (
        day, consumer_id, operation, calls, dispatched_at, send_at, method, path, outcome, error
    ) VALUES (
        p_day, p_consumer, p_operation, p_calls, now, now, '', '', p_outcome, p_note
    ) RETURNING id INTO written;
    RETURN written;
END $$;

-- The price of a batch by which a difference between ISBNdb's count and ours is explained: what the newest batches since
-- a journal row, or all of them, would have cost at the other price. Null: no price explains it.
--
-- ISBNdb may not have charged what failed, and may not know yet what is under way; and until it is measured, GET /key may
-- cost nothing. So the difference may be off by that much, if that is little of what it explains. And others may have
-- used the key: the higher price is also taken when all batches explain all but a little of a rise.
CREATE FUNCTION quota_price_explaining(p_difference integer, p_day date, p_since bigint, p_until timestamptz)
RETURNS text LANGUAGE sql STABLE AS $$
    WITH sent AS (  -- a request for which several pay is counted once, with all that they pay
        SELECT id, outcome, path, isbns_asked, calls + coalesce((
            SELECT sum(share.calls) FROM quota_call share WHERE share.share_of_id = request.id
        ), 0) AS calls
        FROM quota_call request
        WHERE day = p_day AND id > p_since AND reservation_id IS NOT NULL AND share_of_id IS NULL
            AND dispatched_at <= p_until
    ), doubtful AS (
        SELECT coalesce(sum(calls) FILTER (WHERE outcome <> 'ok' OR quota_is_question(path) AND NOT measured), 0) AS off
        FROM sent CROSS JOIN (
            SELECT EXISTS (SELECT FROM quota_pricemeasurement WHERE key_price IS NOT NULL) AS measured
        ) AS key_price
    ), explained AS (
        SELECT sum(dearer) OVER (PARTITION BY counted_all ORDER BY id DESC) AS difference,
            sum(dearer) OVER (PARTITION BY counted_all) AS of_all
        FROM sent CROSS JOIN (VALUES (false), (true)) AS under_way (counted_all)
        CROSS JOIN LATERAL (
            SELECT CASE WHEN p_difference > 0 THEN isbns_asked - calls ELSE calls - 1 END AS dearer
        ) AS batch
        WHERE isbns_asked > 1 AND (outcome = 'ok' OR counted_all AND outcome = 'unknown')
    )
    SELECT CASE WHEN p_difference > 0 THEN 'isbn' ELSE 'request' END
    FROM explained, doubtful
    WHERE difference > 0 AND (
        abs(p_difference) = difference
        OR p_difference BETWEEN of_all AND of_all + of_all / 10
        OR 2 * off < difference AND CASE
            WHEN p_difference > 0 THEN p_difference BETWEEN difference - off AND difference
            ELSE -p_difference BETWEEN difference AND difference + off
        END
    )
    LIMIT 1
$$;

-- Records the price of a batch that the reconciliation of these two counts shows, with both as evidence. Changes nothing
-- when that price was the last one measured. The caller holds the lock of the day's ledger.
CREATE FUNCTION quota_record_price(
    p_day date, p_how text, p_batch_price text, p_before quota_reconciliation, p_spent integer, p_used integer,
    p_answered_at timestamptz, p_call bigint, p_note text
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO quota_pricemeasurement (day, measured_at, how, batch_price, figures, note)
    SELECT p_day, quota_now(), p_how, p_batch_price,
        jsonb_build_array(
            jsonb_build_object(
                'at', (p_before).answered_at, 'spent', (p_before).spent, 'call', (p_before).call_id,
                'ours', (p_before).used + (p_before).raised_by
            ),
            jsonb_build_object('at', p_answered_at, 'spent', p_spent, 'call', p_call, 'ours', p_used)
        ), p_note
    WHERE p_batch_price IS DISTINCT FROM (
        SELECT m.batch_price FROM quota_pricemeasurement m WHERE m.batch_price <> '' ORDER BY id DESC LIMIT 1
    )
$$;

-- Gives the ledger the daily limit that ISBNdb sells (p_total) when that is lower, and raises it again, up to
-- p_daily_limit, after a reconciliation has lowered it. The safety buffer stays, or shrinks in proportion when it would
-- be more than half of the limit. Returns the new limit; null when nothing changes. The caller holds the lock of the ledger.
CREATE FUNCTION quota_follow_plan(p_day date, p_total bigint, p_daily_limit integer, p_safety_buffer integer)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    ledger quota_dailyledger;
    lowered_to integer;
    fitting integer;
    buffer integer;
BEGIN
    SELECT * INTO ledger FROM quota_dailyledger WHERE day = p_day;
    SELECT limit_to INTO lowered_to FROM quota_reconciliation
    WHERE day = p_day AND limit_to IS NOT NULL ORDER BY id DESC LIMIT 1;
    IF p_total BETWEEN 1 AND ledger.daily_limit - 1 THEN
        fitting := p_total;
        buffer := ledger.safety_buffer;
    ELSIF p_total > ledger.daily_limit AND lowered_to = ledger.daily_limit AND p_daily_limit > ledger.daily_limit THEN
        fitting := least(p_total, p_daily_limit);
        buffer := p_safety_buffer;
    ELSE
        RETURN NULL;
    END IF;
    IF 2 * buffer::bigint > fitting THEN
        buffer := least(buffer, fitting::bigint * p_safety_buffer / p_daily_limit);  -- which is below the limit
    END IF;
    UPDATE quota_dailyledger SET daily_limit = fitting, safety_buffer = buffer WHERE day = p_day;
    RETURN fitting;
END $$;

-- Compares ISBNdb's count of p_day, as of p_answered_at, with ours of that moment, and raises ours when it is lower. If
-- the count is null, nothing is compared. The `used` that is returned is ours at that moment, before the raise. It holds
-- every call that was dispatched by then, because each may have arrived, and every correction since, so that nothing is
-- raised twice.
--
-- Checks the prices: a difference that the other price of a batch explains switches to the higher price at once, in this
-- transaction. The lower price is only returned (price_seen): a person confirms it. Two answers with
-- nothing else sent in between show the price of GET /key; that it costs nothing, only if they are p_apart seconds apart.
--
-- Follows what ISBNdb sells a day: limit_from and limit_to are the daily limit before and after, null when it stays.
--
-- Closes the day when ISBNdb has nothing left (p_left; null: not known). Opens a closed day again when ISBNdb has calls
-- left. Two things show that the answer is newer than the end: it was asked for after the day was closed, and ISBNdb
-- sells more than our own count, which a counter that lags does not show. p_verdict says in words what is left.
CREATE FUNCTION quota_reconcile(
    p_call bigint, p_day date, p_spent integer, p_total bigint, p_left integer, p_answered_at timestamptz,
    p_consumer bigint, p_note text, p_verdict text, p_in_flight integer, p_apart double precision,
    p_daily_limit integer, p_safety_buffer integer,
    OUT used integer, OUT raised integer, OUT day_change text, OUT price_seen text, OUT limit_from integer,
    OUT limit_to integer
) LANGUAGE plpgsql AS $$
DECLARE
    closed timestamptz;
    before quota_reconciliation;  -- the last one of the day that was used
    risen integer;                -- by how much ISBNdb's count rose since then
    ours integer;                 -- and by how much ours did, without what people corrected
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    SELECT l.used, l.closed_at, l.daily_limit INTO used, closed, limit_from
    FROM quota_dailyledger l WHERE day = p_day FOR NO KEY UPDATE;
    SELECT used - coalesce(sum(calls), 0) INTO used FROM quota_call
    WHERE day = p_day AND id > p_call AND reservation_id IS NOT NULL AND dispatched_at > p_answered_at;
    raised := greatest(0, coalesce(p_spent - used, 0));
    IF raised > 0 THEN
        PERFORM quota_correct(
            p_day => p_day, p_consumer => p_consumer, p_operation => 'reconciliation', p_calls => raised,
            p_outcome => 'external', p_note => p_note
        );
    END IF;

    SELECT * INTO before FROM quota_reconciliation WHERE day = p_day AND ignored = '' ORDER BY id DESC LIMIT 1;
    risen := p_spent - coalesce(before.spent, 0);
    ours := used - coalesce(before.used + before.raised_by, 0) - (
        SELECT coalesce(sum(calls), 0) FROM quota_call
        WHERE day = p_day AND outcome = 'adjusted' AND (before.id IS NULL OR dispatched_at > before.answered_at)
    );
    price_seen := coalesce(
        quota_price_explaining(risen - ours, p_day, coalesce(before.call_id, 0), p_answered_at),
        quota_price_explaining(p_spent - used, p_day, coalesce(before.call_id, 0), p_answered_at), ''
    );
    IF price_seen = 'isbn' THEN
        PERFORM quota_record_price(
            p_day => p_day, p_how => 'reconciliation', p_batch_price => 'isbn', p_before => before, p_spent => p_spent,
            p_used => used, p_answered_at => p_answered_at, p_call => p_call, p_note => format(
                'ISBNdb''s counter rose by %s, ours by %s: the batches of that time cost 1 call for each ISBN.', risen, ours
            )
        );
    ELSIF price_seen = 'request' AND (p_spent >= used OR p_in_flight > 0) THEN
        price_seen := '';
    END IF;
    IF before.id IS NOT NULL AND p_in_flight = 0 AND before.in_flight = 0 AND risen IN (0, 1)
        AND (risen = 1 OR p_answered_at - before.answered_at >= make_interval(secs => p_apart))
        AND ours = (SELECT calls FROM quota_call WHERE id = p_call)
        AND NOT EXISTS (
            SELECT FROM quota_call WHERE day = p_day AND id > before.call_id AND id < p_call AND reservation_id IS NOT NULL
        )
    THEN
        INSERT INTO quota_pricemeasurement (day, measured_at, how, batch_price, key_price, figures, note)
        SELECT p_day, quota_now(), 'reconciliation', '', risen,
            jsonb_build_array(
                jsonb_build_object('at', before.answered_at, 'spent', before.spent, 'call', before.call_id),
                jsonb_build_object('at', p_answered_at, 'spent', p_spent, 'call', p_call)
            ), 'Nothing else was sent between two questions for the counter.'
        WHERE risen IS DISTINCT FROM (
            SELECT m.key_price FROM quota_pricemeasurement m WHERE m.key_price IS NOT NULL ORDER BY id DESC LIMIT 1
        );
    END IF;

    IF p_spent IS NOT NULL THEN
        limit_to := quota_follow_plan(
            p_day => p_day, p_total => p_total, p_daily_limit => p_daily_limit, p_safety_buffer => p_safety_buffer
        );
    END IF;
    IF limit_to IS NULL THEN
        limit_from := NULL;
    END IF;

    day_change := '';
    IF p_left <= 0 THEN
        day_change := CASE WHEN quota_close_day(p_day => p_day, p_reason => p_verdict) THEN 'closed' ELSE '' END;
    ELSIF p_left > 0 AND p_total > used + raised
        AND closed < (SELECT dispatched_at FROM quota_call WHERE id = p_call)
        AND quota_reopen_day(
            p_day => p_day, p_reason => p_verdict, p_made_by => NULL, p_made_with => 'a reconciliation'
        ) IS NOT NULL
    THEN
        day_change := 'reopened';
    END IF;
END $$;

-- Lowers our count of today to ISBNdb's, as the reconciliation has seen it: a person has confirmed it. If that showed the
-- lower price of a batch, the price is in force from now on. Returns how many calls were taken back; 0, and nothing
-- changes, when the reconciliation is not the day's last one, when something was under way, or when our count has been
-- corrected since.
--
-- The consumers to whom the most was charged that ISBNdb may not have charged get it back first: batches by the ISBN, if
-- that is the cause, and requests that failed. What remains comes from those who have used the most.
CREATE FUNCTION quota_take_figure(p_reconciliation bigint, p_reason text, p_made_by bigint, p_made_with text)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    seen quota_reconciliation;
    before quota_reconciliation;
    payer record;
    back integer;
    share integer;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    PERFORM FROM quota_dailyledger
    WHERE day = (SELECT day FROM quota_reconciliation WHERE id = p_reconciliation) FOR NO KEY UPDATE;
    SELECT * INTO seen FROM quota_reconciliation WHERE id = p_reconciliation;
    SELECT * INTO before FROM quota_reconciliation
    WHERE day = seen.day AND ignored = '' AND id < seen.id ORDER BY id DESC LIMIT 1;
    back := seen.used - seen.spent;
    IF seen.id IS NULL OR seen.day <> quota_day(quota_now()) OR seen.ignored <> '' OR seen.in_flight > 0 OR back <= 0
        OR EXISTS (SELECT FROM quota_reconciliation WHERE day = seen.day AND ignored = '' AND id > seen.id)
        OR EXISTS (
            SELECT FROM quota_call
            WHERE day = seen.day AND reservation_id IS NULL AND dispatched_at > seen.answered_at
        )
    THEN
        RETURN 0;
    END IF;
    FOR payer IN
        SELECT consumer_id, used, coalesce(doubtful.calls, 0) AS doubtful
        FROM quota_consumerusage usage
        LEFT JOIN LATERAL (
            SELECT sum(CASE WHEN outcome = 'ok' AND share_of_id IS NULL THEN calls - 1 ELSE calls END) AS calls
            FROM quota_call call
            WHERE call.day = seen.day AND call.consumer_id = usage.consumer_id AND reservation_id IS NOT NULL
                AND (outcome <> 'ok' OR seen.price_seen = 'request' AND (isbns_asked > 1 OR share_of_id IS NOT NULL)
                    AND call.id > coalesce(before.call_id, 0))
        ) AS doubtful ON true
        WHERE usage.day = seen.day AND used > 0
        ORDER BY doubtful DESC, used DESC, consumer_id
    LOOP
        share := least(back, payer.doubtful, payer.used);
        IF share > 0 THEN
            PERFORM quota_take_back(seen, payer.consumer_id, share, p_reason, p_made_by, p_made_with);
            back := back - share;
        END IF;
    END LOOP;
    FOR payer IN
        SELECT consumer_id, used FROM quota_consumerusage WHERE day = seen.day AND used > 0 ORDER BY used DESC, consumer_id
    LOOP
        EXIT WHEN back = 0;
        share := least(back, payer.used);
        PERFORM quota_take_back(seen, payer.consumer_id, share, p_reason, p_made_by, p_made_with);
        back := back - share;
    END LOOP;
    IF seen.price_seen = 'request' THEN
        PERFORM quota_record_price(
            p_day => seen.day, p_how => 'person', p_batch_price => 'request', p_before => before, p_spent => seen.spent,
            p_used => seen.used, p_answered_at => seen.answered_at, p_call => seen.call_id, p_note => p_reason
        );
    END IF;
    RETURN seen.used - seen.spent - back;
END $$;

-- Takes calls of a consumer back, with the person's reason on record. A step of quota_take_figure.
CREATE FUNCTION quota_take_back(
    seen quota_reconciliation, p_consumer bigint, p_calls integer, p_reason text, p_made_by bigint, p_made_with text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM quota_correct(
        p_day => seen.day, p_consumer => p_consumer, p_operation => 'adjustment', p_calls => -p_calls,
        p_outcome => 'adjusted', p_note => left(format('%s (%s)', p_reason, p_made_with), 1000)
    );
    INSERT INTO quota_adjustment (
        day, consumer_id, calls, reason, made_by_id, made_with, created_at, reconciliation_id
    ) VALUES (seen.day, p_consumer, -p_calls, p_reason, p_made_by, p_made_with, quota_now(), seen.id);
END $$;
