-- A stand-in for tests and the demo of this client library: a small imitation of the SQL functions of PgQue. It is not PgQue, is
-- not derived from PgQue's source, and must not be used for anything that matters: events are never removed from its table, there
-- is no rotation, no scheduler, no trigger and no partition slot. What it has answers as PgQue 0.2 does, down to the error texts,
-- because clients can tell PgQue's errors apart by nothing else; tests/server/check_standin.sh compares the two.
--
-- Needs PostgreSQL 14 or later and a superuser (or CREATEROLE and CREATE on the database). Load it with
--   psql -v ON_ERROR_STOP=1 -f pgque_standin.sql
-- Loading it again keeps the data.

set client_min_messages = warning;
set search_path = pgque, pg_catalog, pg_temp;

-- Roles ---------------------------------------------------------------------------------------------------------------------------
-- They belong to the whole cluster, so another database may be creating the very same ones at this moment.
do $$
declare
  statement text;
begin
  foreach statement in array array['create role pgque_reader', 'create role pgque_writer', 'create role pgque_admin'] loop
    if to_regrole(split_part(statement, ' ', 3)) is null then
      begin
        execute statement;
      exception when duplicate_object or unique_violation then null;
      end;
    end if;
  end loop;
end $$;
do $$
begin
  if not (pg_has_role('pgque_admin', 'pgque_reader', 'member') and pg_has_role('pgque_admin', 'pgque_writer', 'member')) then
    grant pgque_reader, pgque_writer to pgque_admin;
  end if;
exception when unique_violation or internal_error then null;  -- somebody else has just granted it
end $$;

-- Tables --------------------------------------------------------------------------------------------------------------------------
create schema if not exists pgque;

create table if not exists pgque.config (
  singleton      boolean primary key default true check (singleton),
  ticker_job_id  bigint,
  maint_job_id   bigint,
  scheduler      text check (scheduler in ('pg_cron', 'pg_timetable')),
  tick_period_ms integer not null default 100,
  installed_at   timestamptz not null default clock_timestamp()
);
insert into pgque.config default values on conflict do nothing;

create table if not exists pgque.queue (
  queue_id                 serial primary key,
  queue_name               text not null constraint queue_name_uq unique,
  queue_ntables            integer not null default 3,
  queue_cur_table          integer not null default 0,
  queue_rotation_period    interval not null default '2 hours',
  queue_switch_step2       bigint default pg_current_xact_id()::text::bigint,
  queue_switch_time        timestamptz not null default now(),
  queue_external_ticker    boolean not null default false,
  queue_disable_insert     boolean not null default false,
  queue_ticker_paused      boolean not null default false,
  queue_ticker_max_count   integer not null default 500,
  queue_ticker_max_lag     interval not null default '3 seconds',
  queue_ticker_idle_period interval not null default '1 minute',
  queue_data_pfx           text,
  queue_event_seq          text,
  queue_tick_seq           text,
  queue_extra_maint        text[],
  queue_max_retries        integer
);
alter table pgque.queue add column if not exists queue_extra_maint text[];
alter table pgque.queue add column if not exists queue_data_pfx text;

create table if not exists pgque.tick (
  tick_queue     integer not null references pgque.queue,
  tick_id        bigint not null,
  tick_time      timestamptz not null default now(),
  tick_snapshot  pg_snapshot not null default pg_current_snapshot(),
  tick_event_seq bigint not null,
  primary key (tick_queue, tick_id)
);

-- All queues' events, of which each queue has a view. An id is not unique here: a retry inserts its event again, for one
-- subscription only (ev_owner).
create table if not exists pgque.event (
  ev_queue  integer not null,
  ev_id     bigint not null,
  ev_time   timestamptz not null,
  ev_txid   xid8 not null default pg_current_xact_id(),
  ev_owner  integer,
  ev_retry  integer,
  ev_type   text,
  ev_data   text,
  ev_extra1 text,
  ev_extra2 text,
  ev_extra3 text,
  ev_extra4 text
);
create index if not exists event_txid_idx on pgque.event (ev_queue, ev_txid);
create index if not exists event_id_idx on pgque.event (ev_queue, ev_id);

create table if not exists pgque.consumer (
  co_id   serial primary key,
  co_name text not null constraint consumer_name_uq unique
);

-- A cooperative group is one coop_main row, which has the cursor, and coop_member rows, which share its sub_id and hold batches.
create sequence if not exists pgque.batch_id_seq;
create table if not exists pgque.subscription (
  sub_id        serial,
  sub_queue     integer not null references pgque.queue,
  sub_consumer  integer not null references pgque.consumer,
  sub_last_tick bigint,
  sub_active    timestamptz not null default now(),
  sub_batch     bigint constraint subscription_batch_idx unique,
  sub_next_tick bigint,
  sub_role      text not null default 'normal' check (sub_role in ('normal', 'coop_main', 'coop_member')),
  primary key (sub_queue, sub_consumer)
);

create table if not exists pgque.retry_queue (
  ev_retry_after timestamptz not null,
  ev_queue       integer not null references pgque.queue,
  ev_id          bigint not null,
  ev_time        timestamptz not null,
  ev_txid        xid8,
  ev_owner       integer not null,
  ev_retry       integer,
  ev_type        text,
  ev_data        text,
  ev_extra1      text,
  ev_extra2      text,
  ev_extra3      text,
  ev_extra4      text,
  primary key (ev_owner, ev_id)
);
create index if not exists rq_retry_idx on pgque.retry_queue (ev_retry_after);

create table if not exists pgque.dead_letter (
  dl_id          bigserial primary key,
  dl_queue_id    integer not null references pgque.queue on delete cascade,
  dl_consumer_id integer not null references pgque.consumer on delete cascade,
  dl_time        timestamptz not null default now(),
  dl_reason      text,
  ev_id          bigint not null,
  ev_time        timestamptz not null,
  ev_txid        xid8,
  ev_retry       integer,
  ev_type        text,
  ev_data        text,
  ev_extra1      text,
  ev_extra2      text,
  ev_extra3      text,
  ev_extra4      text
);
create index if not exists dl_queue_time_idx on pgque.dead_letter (dl_queue_id, dl_time);
create unique index if not exists dl_queue_consumer_ev_idx on pgque.dead_letter (dl_queue_id, dl_consumer_id, ev_id);

do $$
begin
  if to_regtype('pgque.message') is null then
    create type pgque.message as (
      msg_id bigint, batch_id bigint, type text, payload text, retry_count integer, created_at timestamptz,
      extra1 text, extra2 text, extra3 text, extra4 text
    );
  end if;
end $$;

-- Queues --------------------------------------------------------------------------------------------------------------------------
create or replace function pgque.version() returns text language sql as $$ select '0.2.0-standin'::text $$;

-- Without SECURITY DEFINER, and denied to readers, as in 0.2.0; that is why get_queue_info fails for them.
create or replace function pgque.seq_getval(i_seq_name text) returns bigint language plpgsql strict as $$
declare
  value bigint;
begin
  execute 'select last_value from ' || i_seq_name into value;
  return value;
end $$;

create or replace function pgque._tick(q pgque.queue, seq bigint) returns bigint language plpgsql as $$
declare
  id bigint;
begin
  insert into tick (tick_queue, tick_id, tick_event_seq) values (q.queue_id, nextval(q.queue_tick_seq), seq)
  returning tick_id into id;
  perform pg_notify('pgque_' || q.queue_name, id::text);
  return id;
end $$;

create or replace function pgque.create_queue(i_queue_name text) returns integer language plpgsql as $$
declare
  q queue;
begin
  if i_queue_name is null then raise exception 'Invalid NULL value'; end if;
  if octet_length(i_queue_name) > 57 then
    raise exception 'queue name too long: % bytes (max 57). pg_notify channel ''pgque_<queue_name>'' must fit in 63 bytes.',
      octet_length(i_queue_name);
  end if;
  if exists (select from queue where queue_name = i_queue_name) then return 0; end if;
  q.queue_id := nextval('queue_queue_id_seq');
  insert into queue (queue_id, queue_name, queue_data_pfx, queue_event_seq, queue_tick_seq)
  values (q.queue_id, i_queue_name, format('pgque.event_%s', q.queue_id), format('pgque.event_%s_id_seq', q.queue_id),
    format('pgque.event_%s_tick_seq', q.queue_id))
  returning * into q;
  execute format('create sequence %1$s; create sequence %2$s; grant all on sequence %1$s, %2$s to pgque_admin;
    grant select on sequence %1$s, %2$s to public;
    create view %3$s as select ev_id, ev_time, ev_txid, ev_owner, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3,
      ev_extra4 from pgque.event where ev_queue = %4$s;
    grant select on %3$s to public', q.queue_event_seq, q.queue_tick_seq, q.queue_data_pfx, q.queue_id);
  perform _tick(q, seq_getval(q.queue_event_seq));
  return 1;
end $$;

create or replace function pgque.drop_queue(x_queue_name text, x_force boolean) returns integer language plpgsql as $$
declare
  q queue;
  name text;
begin
  select * into q from queue where queue_name = x_queue_name for update;
  if not found then raise exception 'No such event queue'; end if;
  if x_force is not true and exists (select from subscription where sub_queue = q.queue_id) then
    raise exception 'cannot drop queue, consumers still attached';
  end if;
  for name in
    select co_name from subscription join consumer on co_id = sub_consumer where sub_queue = q.queue_id order by sub_role, co_id
  loop
    perform unregister_consumer(x_queue_name, name);
  end loop;
  -- A sender's transaction keeps a lock on the sequence, so this also waits for open ones.
  execute format('drop sequence %s, %s; drop view if exists %s', q.queue_event_seq, q.queue_tick_seq,
    'pgque.event_' || q.queue_id);
  delete from event where ev_queue = q.queue_id;
  delete from retry_queue where ev_queue = q.queue_id;
  delete from tick where tick_queue = q.queue_id;
  delete from queue where queue_id = q.queue_id;
  return 1;
end $$;

create or replace function pgque.drop_queue(x_queue_name text) returns integer language sql strict
as $$ select pgque.drop_queue(x_queue_name, false) $$;

create or replace function pgque.set_queue_config(x_queue_name text, x_param_name text, x_param_value text) returns integer
language plpgsql as $$
declare
  value text := x_param_value;
begin
  if x_queue_name is null or x_param_name is null then raise exception 'Invalid NULL value'; end if;
  perform from queue where queue_name = x_queue_name;
  if not found then raise exception 'No such event queue'; end if;
  case
    when x_param_name in ('ticker_max_count', 'max_retries') then
      if x_param_name = 'ticker_max_count' and value::bigint <= 0 then
        raise exception 'set_queue_config: % must be > 0, got %', x_param_name, value::bigint;
      elsif value::bigint < 0 then
        raise exception 'set_queue_config: % must be >= 0, got %', x_param_name, value::bigint;
      end if;
    when x_param_name in ('ticker_max_lag', 'ticker_idle_period', 'rotation_period') then
      if value::interval <= '0' then
        raise exception 'set_queue_config: % must be > 0, got %', x_param_name, value::interval;
      end if;
    when x_param_name in ('ticker_paused', 'external_ticker') then
      null;
    else
      raise exception 'cannot change parameter "%s"', x_param_name;  -- PgQue's message really has the stray s
  end case;
  execute format('update pgque.queue set %I = %s where queue_name = %L', 'queue_' || x_param_name,
    case when value is null then 'default' else quote_literal(value) end, x_queue_name);
  return 1;
end $$;

create or replace function pgque.get_queue_info(
  i_queue_name text, out queue_name text, out queue_ntables integer, out queue_cur_table integer,
  out queue_rotation_period interval, out queue_switch_time timestamptz, out queue_external_ticker boolean,
  out queue_ticker_paused boolean, out queue_ticker_max_count integer, out queue_ticker_max_lag interval,
  out queue_ticker_idle_period interval, out ticker_lag interval, out ev_per_sec double precision, out ev_new bigint,
  out last_tick_id bigint) returns setof record language sql as $$
  select q.queue_name, q.queue_ntables, q.queue_cur_table, q.queue_rotation_period, q.queue_switch_time, q.queue_external_ticker,
         q.queue_ticker_paused, q.queue_ticker_max_count, q.queue_ticker_max_lag, q.queue_ticker_idle_period,
         now() - last.tick_time,
         (last.tick_event_seq - first.tick_event_seq) / nullif(extract(epoch from last.tick_time - first.tick_time), 0)::float8,
         pgque.seq_getval(q.queue_event_seq) - last.tick_event_seq, last.tick_id
  from pgque.queue q
  left join lateral (select * from pgque.tick where tick_queue = q.queue_id order by tick_id desc limit 1) last on true
  left join lateral (select * from pgque.tick where tick_queue = q.queue_id and tick_time > now() - interval '20 minutes'
                     order by tick_id limit 1) first on true
  where i_queue_name is null or q.queue_name = i_queue_name
  order by q.queue_name
$$;

create or replace function pgque.get_queue_info(
  out queue_name text, out queue_ntables integer, out queue_cur_table integer, out queue_rotation_period interval,
  out queue_switch_time timestamptz, out queue_external_ticker boolean, out queue_ticker_paused boolean,
  out queue_ticker_max_count integer, out queue_ticker_max_lag interval, out queue_ticker_idle_period interval,
  out ticker_lag interval, out ev_per_sec double precision, out ev_new bigint, out last_tick_id bigint)
returns setof record language sql as $$ select * from pgque.get_queue_info(null) $$;

-- Producing -----------------------------------------------------------------------------------------------------------------------
create or replace function pgque._find_queue(i_queue text) returns pgque.queue language plpgsql as $$
declare
  q queue;
begin
  select * into q from queue where queue_name = i_queue;
  if not found then raise exception 'queue not found: %', i_queue; end if;
  return q;
end $$;

create or replace function pgque.insert_event(
  queue_name text, ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint language plpgsql as $$
declare
  q queue := _find_queue($1);
  id bigint := nextval(q.queue_event_seq);
begin
  if q.queue_disable_insert then raise exception 'Insert into queue disallowed'; end if;
  insert into event values (q.queue_id, id, now(), pg_current_xact_id(), null, null, $2, $3, $4, $5, $6, $7);
  return id;
end $$;

-- An event, or a retry if it has an owner; an id that is NULL comes from the sequence, which advances in any case.
create or replace function pgque.insert_event_raw(
  queue_name text, ev_id bigint, ev_time timestamptz, ev_owner integer, ev_retry integer, ev_type text, ev_data text,
  ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint language plpgsql as $$
declare
  q pgque.queue := pgque._find_queue($1);
  id bigint := nextval(q.queue_event_seq);
begin
  if q.queue_disable_insert then raise exception 'Insert into queue disallowed'; end if;
  id := coalesce($2, id);
  insert into pgque.event values (q.queue_id, id, $3, pg_current_xact_id(), $4, $5, $6, $7, $8, $9, $10, $11);
  return id;
end $$;

create or replace function pgque.insert_event(queue_name text, ev_type text, ev_data text) returns bigint
language sql as $$ select pgque.insert_event($1, $2, $3, null, null, null, null) $$;

create or replace function pgque.send(queue_name text, type_name text, payload text) returns bigint language sql
as $$ select insert_event($1, $2, $3, null, null, null, null) $$;

create or replace function pgque.send(queue_name text, type_name text, payload jsonb) returns bigint language sql
as $$ select insert_event($1, $2, $3::text, null, null, null, null) $$;

create or replace function pgque.send(queue_name text, payload text) returns bigint language sql
as $$ select insert_event($1, 'default', $2, null, null, null, null) $$;

create or replace function pgque.send(queue_name text, payload jsonb) returns bigint language sql
as $$ select insert_event($1, 'default', $2::text, null, null, null, null) $$;

create or replace function pgque.send_batch(queue_name text, type_name text, payloads text[]) returns bigint[]
language plpgsql as $$
declare
  q queue;
  ids bigint[];
begin
  if payloads is null then raise exception 'payloads must not be null'; end if;
  if cardinality(payloads) = 0 then return '{}'; end if;
  q := _find_queue($1);
  if q.queue_disable_insert then raise exception 'Insert into queue disallowed'; end if;
  with inserted as (
    insert into event (ev_queue, ev_id, ev_time, ev_type, ev_data)
    select q.queue_id, nextval(q.queue_event_seq), now(), $2, data from unnest(payloads) data
    returning ev_id
  )
  select array_agg(ev_id order by ev_id) into ids from inserted;
  return ids;
end $$;

create or replace function pgque.send_batch(queue_name text, type_name text, payloads jsonb[]) returns bigint[]
language sql as $$ select send_batch($1, $2, $3::text[]) $$;

create or replace function pgque.send_batch(queue_name text, payloads text[]) returns bigint[]
language sql as $$ select send_batch($1, 'default', $2) $$;

create or replace function pgque.send_batch(queue_name text, payloads jsonb[]) returns bigint[]
language sql as $$ select send_batch($1, 'default', $2::text[]) $$;

-- Subscribing ---------------------------------------------------------------------------------------------------------------------
create or replace function pgque._consumer_id(i_name text) returns integer language plpgsql as $$
declare
  id integer;
begin
  select co_id into id from consumer where co_name = i_name for update;
  if not found then
    insert into consumer (co_name) values (i_name) returning co_id into id;
  end if;
  return id;
end $$;

create or replace function pgque.register_consumer_at(x_queue_name text, x_consumer_name text, x_tick_pos bigint) returns integer
language plpgsql as $$
declare
  q queue;
  co integer;
  s subscription;
  start bigint := x_tick_pos;
begin
  select * into q from queue where queue_name = x_queue_name;
  if not found then raise exception 'Event queue not created yet'; end if;
  co := _consumer_id(x_consumer_name);
  if start is not null and not exists (select from tick where tick_queue = q.queue_id and tick_id = start) then
    raise exception 'cannot reposition, tick not found: %', start;
  end if;
  select * into s from subscription where sub_queue = q.queue_id and sub_consumer = co;
  if found then
    if start is not null then
      update subscription set sub_last_tick = start, sub_next_tick = null, sub_batch = null, sub_active = now()
      where sub_queue = q.queue_id and sub_consumer = co;
    end if;
    return 0;
  end if;
  if start is null then
    select max(tick_id) into start from tick where tick_queue = q.queue_id;
    if start is null then raise exception 'No ticks for this queue.  Please run ticker on database.'; end if;
  end if;
  insert into subscription (sub_queue, sub_consumer, sub_last_tick) values (q.queue_id, co, start);
  return 1;
end $$;

create or replace function pgque.register_consumer(x_queue_name text, x_consumer_id text) returns integer language sql
as $$ select register_consumer_at(x_queue_name, x_consumer_id, null) $$;

create or replace function pgque.subscribe(queue text, consumer text) returns integer
language sql as $$ select register_consumer_at($1, $2, null) $$;

create or replace function pgque._delete_subscription(i_queue integer, i_consumer integer) returns void language plpgsql as $$
begin
  delete from subscription where sub_queue = i_queue and sub_consumer = i_consumer;
  -- With the consumer go its dead letters, in every queue.
  delete from consumer where co_id = i_consumer and not exists (select from subscription where sub_consumer = i_consumer);
end $$;

create or replace function pgque.unregister_consumer(x_queue_name text, x_consumer_name text) returns integer language plpgsql as $$
declare
  s subscription;
begin
  select sub.* into s
  from queue join subscription sub on sub_queue = queue_id join consumer on co_id = sub_consumer
  where queue_name = x_queue_name and co_name = x_consumer_name
  for update of sub, consumer;
  if not found then return 0; end if;
  if s.sub_role = 'coop_member' then
    if s.sub_batch is not null then
      raise exception 'cannot unregister active cooperative subconsumer without forced batch handling';
    end if;
  elsif s.sub_role = 'coop_main' then
    raise exception 'cannot unregister cooperative main consumer with registered subconsumers';
  else
    delete from retry_queue where ev_owner = s.sub_id;
  end if;
  perform _delete_subscription(s.sub_queue, s.sub_consumer);
  if s.sub_role = 'coop_member' then perform _after_member_left(s); end if;
  return 1;
end $$;

create or replace function pgque.unsubscribe(queue text, consumer text) returns integer
language sql as $$ select unregister_consumer($1, $2) $$;

create or replace function pgque.get_consumer_info(
  i_queue_name text, i_consumer_name text, out queue_name text, out consumer_name text, out lag interval, out last_seen interval,
  out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint)
returns setof record language sql as $$
  select q.queue_name, co_name, now() - done.tick_time, now() - sub_active, sub_last_tick, sub_batch, sub_next_tick,
         (select tick_event_seq from tick where tick_queue = queue_id order by tick_id desc limit 1) - done.tick_event_seq
  from queue q
  join subscription on sub_queue = queue_id
  join consumer on co_id = sub_consumer
  left join tick done on done.tick_queue = queue_id and done.tick_id = sub_last_tick
  where (i_queue_name is null or q.queue_name = i_queue_name) and (i_consumer_name is null or co_name = i_consumer_name)
  order by 1, 2
$$;

create or replace function pgque.get_consumer_info(
  i_queue_name text, out queue_name text, out consumer_name text, out lag interval, out last_seen interval,
  out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint) returns setof record language sql
as $$ select * from get_consumer_info(i_queue_name, null) $$;

create or replace function pgque.get_consumer_info(
  out queue_name text, out consumer_name text, out lag interval, out last_seen interval,
  out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint) returns setof record language sql
as $$ select * from get_consumer_info(null, null) $$;

-- Batches -------------------------------------------------------------------------------------------------------------------------
-- The events between a batch's two ticks, or one of them. The transaction id bounds let an index do the work; the visibility tests
-- decide. Two statements, because one for both purposes could use neither index.
create or replace function pgque._batch_events(s pgque.subscription, i_event bigint default null, i_limit integer default null)
returns setof pgque.event language plpgsql as $$
declare
  before pg_snapshot := (select tick_snapshot from tick where tick_queue = s.sub_queue and tick_id = s.sub_last_tick);
  until pg_snapshot := (select tick_snapshot from tick where tick_queue = s.sub_queue and tick_id = s.sub_next_tick);
begin
  if i_event is not null then
    return query select * from event
      where ev_queue = s.sub_queue and ev_id = i_event and (ev_owner is null or ev_owner = s.sub_id)
        and pg_visible_in_snapshot(ev_txid, until) and not pg_visible_in_snapshot(ev_txid, before);
  else
    return query select * from event
      where ev_queue = s.sub_queue and ev_txid >= pg_snapshot_xmin(before) and ev_txid < pg_snapshot_xmax(until)
        and (ev_owner is null or ev_owner = s.sub_id)
        and pg_visible_in_snapshot(ev_txid, until) and not pg_visible_in_snapshot(ev_txid, before)
      order by ev_id limit i_limit;
  end if;
end $$;

create or replace function pgque._batch_messages(i_batch bigint, i_limit integer) returns setof pgque.message
language plpgsql as $$
declare
  s subscription;
begin
  select * into s from subscription where sub_batch = i_batch;
  return query
    select ev_id, i_batch, ev_type, ev_data, ev_retry, ev_time, ev_extra1, ev_extra2, ev_extra3, ev_extra4
    from _batch_events(s, null, i_limit);
  -- An empty interval: nobody would ever get an id to acknowledge it with.
  if not found then perform finish_batch(i_batch); end if;
end $$;

-- The tick that ends the batch that begins at another: the next one or, with limits, the newest if that is within twice the limits and
-- reaches one of them, and otherwise the first that reaches one. A limit is a number of event ids or a time.
create or replace function pgque._ending_tick(i_from pgque.tick, i_min_count bigint, i_min_interval interval) returns pgque.tick
language plpgsql as $$
declare
  t tick;
begin
  if coalesce(i_min_count::text, i_min_interval::text) is not null then
    select * into t from tick where tick_queue = i_from.tick_queue and tick_id > i_from.tick_id order by tick_id desc limit 1;
    if (t.tick_event_seq - i_from.tick_event_seq > 2 * i_min_count or t.tick_time - i_from.tick_time > 2 * i_min_interval) is not true then
      if t.tick_event_seq - i_from.tick_event_seq >= i_min_count or t.tick_time - i_from.tick_time >= i_min_interval then return t; end if;
      return null;
    end if;
  end if;
  select * into t from tick
  where tick_queue = i_from.tick_queue and tick_id > i_from.tick_id
    and (i_min_count is null and i_min_interval is null or tick_event_seq - i_from.tick_event_seq >= i_min_count
         or tick_time - i_from.tick_time >= i_min_interval)
  order by tick_id limit 1;
  return t;
end $$;

create or replace function pgque.next_batch_custom(
  i_queue_name text, i_consumer_name text, i_min_lag interval, i_min_count integer, i_min_interval interval,
  out batch_id bigint, out cur_tick_id bigint, out prev_tick_id bigint, out cur_tick_time timestamptz,
  out prev_tick_time timestamptz, out cur_tick_event_seq bigint, out prev_tick_event_seq bigint) language plpgsql as $$
declare
  s subscription;
  since tick;
  until tick;
begin
  -- Locked even when there turns out to be nothing to do: two receivers with one name take turns.
  select sub.* into s
  from queue join subscription sub on sub_queue = queue_id join consumer on co_id = sub_consumer
  where queue_name = i_queue_name and co_name = i_consumer_name
  for update of sub;
  if not found then
    raise exception 'Not subscriber to queue: %/%', coalesce(i_queue_name, 'NULL'), coalesce(i_consumer_name, 'NULL');
  elsif s.sub_role = 'coop_main' then
    raise exception 'consumer % on queue % is a cooperative main consumer; use cooperative receive/next_batch with a subconsumer',
      i_consumer_name, i_queue_name;
  elsif s.sub_role = 'coop_member' then
    raise exception 'consumer % on queue % is a cooperative subconsumer; use receive_coop / next_batch (cooperative form) instead of the legacy 5-arg next_batch_custom',
      i_consumer_name, i_queue_name;
  end if;
  select * into since from tick where tick_queue = s.sub_queue and tick_id = s.sub_last_tick;
  if s.sub_batch is not null then
    select * into until from tick where tick_queue = s.sub_queue and tick_id = s.sub_next_tick;
  else
    until := _ending_tick(since, i_min_count, i_min_interval);
    if until.tick_id is null or now() - until.tick_time < i_min_lag then return; end if;
    update subscription set sub_batch = nextval('batch_id_seq'), sub_next_tick = until.tick_id, sub_active = now()
    where sub_queue = s.sub_queue and sub_consumer = s.sub_consumer
    returning sub_batch into s.sub_batch;
  end if;
  batch_id := s.sub_batch;
  cur_tick_id := until.tick_id;
  cur_tick_time := until.tick_time;
  cur_tick_event_seq := until.tick_event_seq;
  prev_tick_id := since.tick_id;
  prev_tick_time := since.tick_time;
  prev_tick_event_seq := since.tick_event_seq;
end $$;

create or replace function pgque.next_batch(i_queue_name text, i_consumer_name text) returns bigint language sql as $$
  select batch_id from next_batch_custom(i_queue_name, i_consumer_name, null, null, null)
$$;

create or replace function pgque.receive(i_queue text, i_consumer text, i_max_return integer default 100)
returns setof pgque.message language plpgsql as $$
declare
  batch bigint;
begin
  if i_max_return < 1 then raise exception 'pgque.receive: max_return must be >= 1, got %', i_max_return; end if;
  batch := next_batch(i_queue, i_consumer);
  if batch is not null then return query select * from _batch_messages(batch, i_max_return); end if;
end $$;

create or replace function pgque.finish_batch(x_batch_id bigint) returns integer language plpgsql as $$
declare
  s subscription;
begin
  select * into s from subscription where sub_batch = x_batch_id for update;
  if not found then
    raise warning 'finish_batch: batch % not found', x_batch_id;
    return 0;
  end if;
  update subscription
  set sub_last_tick = case when sub_role <> 'coop_member' then sub_next_tick end, sub_next_tick = null, sub_batch = null,
      sub_active = now()
  where sub_queue = s.sub_queue and sub_consumer = s.sub_consumer;
  return 1;
end $$;

create or replace function pgque.ack(i_batch_id bigint) returns integer language sql as $$ select finish_batch(i_batch_id) $$;

create or replace function pgque._retry(s pgque.subscription, e pgque.event, i_when timestamptz) returns integer
language plpgsql as $$
begin
  -- An event that is in the batch twice, because it was nacked again after its retry had come back, gets no retry.
  if (select count(*) from _batch_events(s, e.ev_id)) > 1 then return 0; end if;
  insert into retry_queue values (i_when, s.sub_queue, e.ev_id, e.ev_time, null, s.sub_id, coalesce(e.ev_retry, 0) + 1,
    e.ev_type, e.ev_data, e.ev_extra1, e.ev_extra2, e.ev_extra3, e.ev_extra4)
  on conflict do nothing;
  return found::integer;
end $$;

create or replace function pgque.event_retry(x_batch_id bigint, x_event_id bigint, x_retry_time timestamptz) returns integer
language plpgsql as $$
declare
  s subscription;
  e event;
begin
  select * into s from subscription where sub_batch = x_batch_id;
  if not found then raise exception 'batch not found'; end if;
  select * into e from _batch_events(s, coalesce(x_event_id, -1));
  if not found then raise exception 'event not found'; end if;
  return _retry(s, e, x_retry_time);
end $$;

create or replace function pgque.event_retry(x_batch_id bigint, x_event_id bigint, x_retry_seconds integer) returns integer
language sql as $$ select event_retry(x_batch_id, x_event_id, now() + x_retry_seconds * interval '1 second') $$;

-- Believes the caller about the event. A worker's dead letters are its group's.
create or replace function pgque.event_dead(
  i_batch_id bigint, i_event_id bigint, i_reason text, i_ev_time timestamptz, i_ev_txid xid8, i_ev_retry integer, i_ev_type text,
  i_ev_data text, i_ev_extra1 text default null, i_ev_extra2 text default null, i_ev_extra3 text default null,
  i_ev_extra4 text default null)
returns integer language plpgsql as $$
declare
  s subscription;
begin
  select * into s from subscription where sub_batch = i_batch_id;
  if not found then raise exception 'batch not found: %', i_batch_id; end if;
  if s.sub_role = 'coop_member' then
    select sub_consumer into s.sub_consumer from subscription
    where sub_queue = s.sub_queue and sub_id = s.sub_id and sub_role = 'coop_main';
  end if;
  insert into dead_letter (dl_queue_id, dl_consumer_id, dl_reason, ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data,
    ev_extra1, ev_extra2, ev_extra3, ev_extra4)
  values (s.sub_queue, s.sub_consumer, i_reason, i_event_id, i_ev_time, i_ev_txid, i_ev_retry, i_ev_type, i_ev_data, i_ev_extra1,
    i_ev_extra2, i_ev_extra3, i_ev_extra4)
  on conflict do nothing;
  return 1;
end $$;

-- Retries an event, or gives it up for dead when it has had its chances.
create or replace function pgque._retry_or_bury(s pgque.subscription, e pgque.event, i_when timestamptz, i_reason text) returns void
language plpgsql as $$
begin
  if coalesce(e.ev_retry, 0) < (select coalesce(queue_max_retries, 5) from queue where queue_id = s.sub_queue) then
    perform _retry(s, e, i_when);
  else
    perform event_dead(s.sub_batch, e.ev_id, coalesce(i_reason, 'max retries exceeded'), e.ev_time, e.ev_txid, e.ev_retry,
      e.ev_type, e.ev_data, e.ev_extra1, e.ev_extra2, e.ev_extra3, e.ev_extra4);
  end if;
end $$;

create or replace function pgque.nack(
  i_batch_id bigint, i_msg pgque.message, i_retry_after interval default '60 seconds', i_reason text default null)
returns integer language plpgsql as $$
declare
  s subscription;
  e event;
begin
  select * into s from subscription where sub_batch = i_batch_id;
  if not found then raise exception 'batch not found: %', i_batch_id; end if;
  -- Of the message only the id is believed.
  select * into e from _batch_events(s, coalesce((i_msg).msg_id, -1));
  if not found then raise exception 'msg_id % not found in batch %', (i_msg).msg_id, i_batch_id; end if;
  perform _retry_or_bury(s, e, now() + extract(epoch from i_retry_after)::integer * interval '1 second', i_reason);
  return 1;
end $$;

create or replace function pgque.get_batch_info(
  x_batch_id bigint, out queue_name text, out consumer_name text, out batch_start timestamptz, out batch_end timestamptz,
  out prev_tick_id bigint, out tick_id bigint, out lag interval, out seq_start bigint, out seq_end bigint)
returns record language sql as $$
  select q.queue_name, co_name, a.tick_time, b.tick_time, a.tick_id, b.tick_id, now() - b.tick_time, a.tick_event_seq,
         b.tick_event_seq
  from subscription
  join queue q on queue_id = sub_queue
  join consumer on co_id = sub_consumer
  join tick a on a.tick_queue = sub_queue and a.tick_id = sub_last_tick
  join tick b on b.tick_queue = sub_queue and b.tick_id = sub_next_tick
  where sub_batch = x_batch_id
$$;

-- Cooperative consumers -----------------------------------------------------------------------------------------------------------
create or replace function pgque._check_coop_names(i_queue text, i_consumer text, i_subconsumer text) returns void
language plpgsql as $$
begin
  if coalesce(i_queue, '') = '' then raise exception 'queue name must not be empty'; end if;
  if coalesce(i_consumer, '') = '' then raise exception 'consumer name must not be empty'; end if;
  if coalesce(i_subconsumer, '') = '' then raise exception 'subconsumer name must not be empty'; end if;
  if strpos(i_consumer, '.') > 0 then raise exception 'cooperative consumer name must not contain dot: %', i_consumer; end if;
  if strpos(i_subconsumer, '.') > 0 then
    raise exception 'cooperative subconsumer name must not contain dot: %', i_subconsumer;
  end if;
end $$;

create or replace function pgque._subscription(i_queue text, i_consumer text) returns pgque.subscription language sql as $$
  select sub from queue join subscription sub on sub_queue = queue_id join consumer on co_id = sub_consumer
  where queue_name = i_queue and co_name = i_consumer
$$;

create or replace function pgque.register_subconsumer(
  i_queue text, i_consumer text, i_subconsumer text, i_convert_normal boolean default false) returns integer language plpgsql as $$
declare
  q queue;
  main subscription;
  member subscription;
  member_name text := i_consumer || '.' || i_subconsumer;
begin
  perform _check_coop_names(i_queue, i_consumer, i_subconsumer);
  select * into q from queue where queue_name = i_queue;
  if not found then raise exception 'Event queue not created yet'; end if;
  if register_consumer_at(i_queue, i_consumer, null) = 1 then
    i_convert_normal := true;
  end if;
  select sub.* into main from subscription sub join consumer on co_id = sub_consumer
  where sub_queue = q.queue_id and co_name = i_consumer for update of sub;
  if main.sub_role <> 'coop_main' then
    if i_convert_normal is false then
      raise exception 'consumer % on queue % is already a normal consumer; explicit conversion is required', i_consumer, i_queue;
    end if;
    if main.sub_batch is not null then
      raise exception 'cannot convert active normal consumer % on queue % to cooperative main', i_consumer, i_queue;
    end if;
    update subscription set sub_role = 'coop_main' where sub_queue = q.queue_id and sub_consumer = main.sub_consumer;
  end if;
  member := _subscription(i_queue, member_name);
  if member.sub_role = 'coop_member' and member.sub_id = main.sub_id then
    update subscription set sub_active = now() where sub_queue = q.queue_id and sub_consumer = member.sub_consumer;
    return 0;
  elsif member.sub_role is not null then
    raise exception 'consumer name % on queue % is already registered incompatibly', member_name, i_queue;
  end if;
  insert into subscription (sub_id, sub_queue, sub_consumer, sub_role)
  values (main.sub_id, q.queue_id, _consumer_id(member_name), 'coop_member');
  return 1;
end $$;

create or replace function pgque.subscribe_subconsumer(
  i_queue text, i_consumer text, i_subconsumer text, i_convert_normal boolean default false) returns integer language sql
as $$ select register_subconsumer(i_queue, i_consumer, i_subconsumer, i_convert_normal) $$;

-- Without members a group is an ordinary consumer again.
create or replace function pgque._after_member_left(s pgque.subscription) returns void language sql as $$
  update subscription set sub_role = 'normal'
  where sub_queue = s.sub_queue and sub_id = s.sub_id and sub_role = 'coop_main'
    and not exists (select from subscription m where m.sub_queue = s.sub_queue and m.sub_id = s.sub_id
                    and m.sub_role = 'coop_member')
$$;

create or replace function pgque.unregister_subconsumer(
  i_queue text, i_consumer text, i_subconsumer text, i_batch_handling integer default 0) returns integer language plpgsql as $$
declare
  s subscription;
  e event;
begin
  perform _check_coop_names(i_queue, i_consumer, i_subconsumer);
  if i_batch_handling not in (0, 1) then raise exception 'unsupported batch_handling value: %', i_batch_handling; end if;
  s := _subscription(i_queue, i_consumer);
  if s.sub_role is distinct from 'coop_main' then return 0; end if;
  -- The group's row first, as everywhere, so that members cannot deadlock.
  perform from subscription where sub_queue = s.sub_queue and sub_consumer = s.sub_consumer for update;
  select sub.* into s from queue join subscription sub on sub_queue = queue_id join consumer on co_id = sub_consumer
  where queue_name = i_queue and co_name = i_consumer || '.' || i_subconsumer and sub_role = 'coop_member' for update of sub;
  if not found then return 0; end if;
  if s.sub_batch is not null then
    if i_batch_handling = 0 then
      raise exception 'cannot unregister active cooperative subconsumer %/%/% without batch_handling = 1',
        i_queue, i_consumer, i_subconsumer;
    end if;
    for e in select * from _batch_events(s) loop
      perform _retry_or_bury(s, e, now() + interval '60 seconds', 'subconsumer unregistered');
    end loop;
  end if;
  perform _delete_subscription(s.sub_queue, s.sub_consumer);
  perform _after_member_left(s);
  return 1;
end $$;

create or replace function pgque.unsubscribe_subconsumer(
  i_queue text, i_consumer text, i_subconsumer text, i_batch_handling integer default 0) returns integer language sql
as $$ select unregister_subconsumer(i_queue, i_consumer, i_subconsumer, i_batch_handling) $$;

create or replace function pgque.touch_subconsumer(i_queue text, i_consumer text, i_subconsumer text) returns integer
language plpgsql as $$
begin
  perform _check_coop_names(i_queue, i_consumer, i_subconsumer);
  -- Also in a long transaction, the worker is alive now.
  update subscription set sub_active = clock_timestamp() from queue, consumer
  where queue_id = sub_queue and co_id = sub_consumer and queue_name = i_queue and co_name = i_consumer || '.' || i_subconsumer
    and sub_role = 'coop_member';
  return found::integer;
end $$;

create or replace function pgque.next_batch_custom(
  i_queue text, i_consumer text, i_subconsumer text, i_min_lag interval, i_min_count integer, i_min_interval interval,
  i_dead_interval interval default null, out batch_id bigint, out prev_tick_id bigint, out next_tick_id bigint) language plpgsql as $$
declare
  main subscription;
  member subscription;
  victim subscription;
  until tick;
begin
  perform register_subconsumer(i_queue, i_consumer, i_subconsumer);
  -- Handing out work is serialised per group by its row.
  main := _subscription(i_queue, i_consumer);
  perform from subscription where sub_queue = main.sub_queue and sub_consumer = main.sub_consumer for update;
  main := _subscription(i_queue, i_consumer);
  member := _subscription(i_queue, i_consumer || '.' || i_subconsumer);
  select * into member from subscription
  where sub_queue = member.sub_queue and sub_consumer = member.sub_consumer for update;

  if member.sub_batch is null then
    select * into victim from subscription
    where sub_queue = main.sub_queue and sub_id = main.sub_id and sub_role = 'coop_member'
      and sub_consumer <> member.sub_consumer and sub_batch is not null and sub_active < now() - i_dead_interval
    order by sub_active, sub_consumer limit 1 for update skip locked;
    if found then
      update subscription set sub_last_tick = null, sub_next_tick = null, sub_batch = null, sub_active = now()
      where sub_queue = victim.sub_queue and sub_consumer = victim.sub_consumer;
      member.sub_last_tick := victim.sub_last_tick;
      member.sub_next_tick := victim.sub_next_tick;
    else
      until := _ending_tick((select t from tick t where tick_queue = main.sub_queue and tick_id = main.sub_last_tick),
                            i_min_count, i_min_interval);
      if until.tick_id is null or now() - until.tick_time < i_min_lag then return; end if;
      -- The group moves on now, not when the member has finished.
      update subscription set sub_last_tick = until.tick_id, sub_active = now()
      where sub_queue = main.sub_queue and sub_consumer = main.sub_consumer;
      member.sub_last_tick := main.sub_last_tick;
      member.sub_next_tick := until.tick_id;
    end if;
    member.sub_batch := nextval('batch_id_seq');
  end if;
  update subscription
  set sub_last_tick = member.sub_last_tick, sub_next_tick = member.sub_next_tick, sub_batch = member.sub_batch, sub_active = now()
  where sub_queue = member.sub_queue and sub_consumer = member.sub_consumer;
  batch_id := member.sub_batch;
  prev_tick_id := member.sub_last_tick;
  next_tick_id := member.sub_next_tick;
end $$;

create or replace function pgque.next_batch(
  i_queue text, i_consumer text, i_subconsumer text, i_dead_interval interval default null) returns bigint language sql as $$
  select batch_id from next_batch_custom(i_queue, i_consumer, i_subconsumer, null, null, null, i_dead_interval)
$$;

create or replace function pgque.receive_coop(
  i_queue text, i_consumer text, i_subconsumer text, i_max_return integer default 100, i_dead_interval interval default null)
returns setof pgque.message language plpgsql as $$
declare
  batch bigint;
begin
  if i_max_return < 1 then raise exception 'pgque.receive_coop: max_return must be >= 1, got %', i_max_return; end if;
  batch := next_batch(i_queue, i_consumer, i_subconsumer, i_dead_interval);
  if batch is not null then return query select * from _batch_messages(batch, i_max_return); end if;
end $$;

-- Ticker --------------------------------------------------------------------------------------------------------------------------
create or replace function pgque._tick_if_due(q pgque.queue) returns bigint language plpgsql as $$
declare
  last tick;
  previous tick;
  seq bigint := seq_getval(q.queue_event_seq);
  age interval;
  due boolean;
begin
  select * into last from tick where tick_queue = q.queue_id order by tick_id desc limit 1;
  if pg_snapshot_xmax(last.tick_snapshot) > pg_snapshot_xmax(pg_current_snapshot()) then
    raise exception 'Invalid PgQ state: old xmin=%, old xmax=%, cur txid=%', pg_snapshot_xmin(last.tick_snapshot),
      pg_snapshot_xmax(last.tick_snapshot), pg_current_xact_id();
  end if;
  select * into previous from tick where tick_queue = q.queue_id and tick_id < last.tick_id order by tick_id desc limit 1;
  age := now() - last.tick_time;
  if seq > last.tick_event_seq then
    due := seq - last.tick_event_seq >= q.queue_ticker_max_count or age >= q.queue_ticker_max_lag;
  else
    -- An idle queue is ticked less and less often.
    due := previous.tick_id is null
      or age >= q.queue_ticker_max_lag / 2
         and (age >= 2 * (last.tick_time - previous.tick_time) or age >= q.queue_ticker_idle_period);
  end if;
  if due is false then return null; end if;
  return _tick(q, seq);
end $$;

create or replace function pgque.ticker(i_queue_name text) returns bigint language plpgsql as $$
declare
  q queue;
begin
  select * into q from queue where queue_name = i_queue_name;
  if not found then
    raise exception 'no such queue';
  elsif q.queue_external_ticker then
    raise exception 'This queue has external tick source.';
  elsif q.queue_ticker_paused then
    raise exception 'Ticker has been paused for this queue';
  end if;
  return _tick_if_due(q);
end $$;

create or replace function pgque.ticker() returns bigint language sql as $$
  select count(_tick_if_due(q)) from queue q where not queue_external_ticker and not queue_ticker_paused
$$;

create or replace function pgque.ticker(
  i_queue_name text, i_tick_id bigint, i_orig_timestamp timestamptz, i_event_seq bigint) returns bigint language plpgsql as $$
declare
  q queue;
  last tick;
begin
  select * into q from queue where queue_name = i_queue_name;
  if not found then
    raise exception 'queue not found: %', i_queue_name;
  elsif q.queue_ticker_paused then
    raise exception 'queue % is paused (queue_ticker_paused = true)', i_queue_name;
  elsif not q.queue_external_ticker then
    raise exception 'queue % is not configured for external ticker (queue_external_ticker = false); use pgque.ticker(queue) instead',
      i_queue_name;
  end if;
  select * into last from tick where tick_queue = q.queue_id order by tick_id desc limit 1;
  if i_tick_id <= last.tick_id then
    raise exception 'external ticker tick_id must be strictly greater than current max (% <= %)', i_tick_id, last.tick_id;
  elsif i_event_seq < last.tick_event_seq then
    raise exception 'external ticker event_seq must be >= previous tick (% < %)', i_event_seq, last.tick_event_seq;
  end if;
  insert into tick (tick_queue, tick_id, tick_time, tick_event_seq) values (q.queue_id, i_tick_id, i_orig_timestamp, i_event_seq);
  perform pg_notify('pgque_' || q.queue_name, i_tick_id::text);
  perform setval(q.queue_tick_seq, greatest(i_tick_id, seq_getval(q.queue_tick_seq)));
  perform setval(q.queue_event_seq, greatest(i_event_seq, seq_getval(q.queue_event_seq)));
  return i_tick_id;
end $$;

create or replace function pgque.force_next_tick(i_queue_name text) returns bigint language plpgsql as $$
declare
  q queue;
begin
  select * into q from queue where queue_name = i_queue_name;
  if not found then
    raise exception 'queue not found: %', i_queue_name;
  elsif q.queue_ticker_paused then
    raise exception 'queue % is paused (queue_ticker_paused = true)', i_queue_name;
  elsif q.queue_external_ticker then
    raise exception 'queue % is configured for external ticker; force_tick is meaningless — push ticks via pgque.ticker(queue, tick_id, ts, event_seq)',
      i_queue_name;
  end if;
  -- Makes it look as if enough events had come for the next ticker() to tick.
  perform setval(q.queue_event_seq, nextval(q.queue_event_seq) + q.queue_ticker_max_count * 2 + 1000);
  return (select max(tick_id) from tick where tick_queue = q.queue_id);
end $$;

create or replace function pgque.force_tick(i_queue_name text) returns bigint
language sql as $$ select force_next_tick(i_queue_name) $$;

create or replace function pgque.set_tick_period_ms(p_period_ms integer) returns integer language plpgsql as $$
begin
  if p_period_ms is null or p_period_ms not between 1 and 1000 or 1000 % p_period_ms <> 0 then
    raise exception 'tick_period_ms must be an exact divisor of 1000 between 1 and 1000 (got %)', coalesce(p_period_ms::text, 'NULL');
  end if;
  update config set tick_period_ms = p_period_ms;
  return p_period_ms;
end $$;

-- A procedure that commits can have neither SECURITY DEFINER nor a search_path of its own.
create or replace procedure pgque.ticker_loop() language plpgsql as $$
declare
  stop_at timestamptz := clock_timestamp() + interval '920 milliseconds';
  period integer;
begin
  loop
    perform pgque.ticker();
    commit;
    select tick_period_ms into period from pgque.config;
    exit when clock_timestamp() + period * interval '1 millisecond' > stop_at;
    perform pg_sleep(period / 1000.0);
  end loop;
end $$;

-- Maintenance ---------------------------------------------------------------------------------------------------------------------
create or replace function pgque.maint_retry_events() returns integer language plpgsql as $$
declare
  moved integer;
begin
  -- Two callers at once must not both move an event.
  lock table pgque.retry_queue in share update exclusive mode;
  if not exists (select from pgque.retry_queue where ev_retry_after <= now()) then return 0; end if;
  if exists (select from (select ev_queue from pgque.retry_queue where ev_retry_after <= now() order by ev_retry_after limit 10) d
             join pgque.queue on queue_id = ev_queue where queue_disable_insert) then
    raise exception 'Insert into queue disallowed';
  end if;
  with due as (
    delete from pgque.retry_queue r
    using (select ev_owner, ev_id from pgque.retry_queue where ev_retry_after <= now() order by ev_retry_after limit 10) d
    where r.ev_owner = d.ev_owner and r.ev_id = d.ev_id
    returning r.*
  ), counted as (
    -- An event keeps its id, but only the sequence tells the ticker that something has come.
    select count(nextval(queue_event_seq)) from due join pgque.queue on queue_id = ev_queue
  )
  insert into pgque.event
  select ev_queue, ev_id, ev_time, pg_current_xact_id(), ev_owner, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3,
         ev_extra4
  from due, counted;
  get diagnostics moved = row_count;
  return moved;
end $$;

-- There are no tables to rotate. What stays is what can fail or has to wait.
create or replace function pgque.maint_rotate_tables_step1(i_queue_name text) returns integer language plpgsql as $$
declare
  q pgque.queue;
  oldest bigint;
  needed pgque.tick;
begin
  select * into q from pgque.queue
  where queue_name = i_queue_name and queue_switch_step2 is not null and queue_switch_time + queue_rotation_period < now()
  for update;
  if not found then return 0; end if;
  select min(sub_last_tick) into oldest from pgque.subscription where sub_queue = q.queue_id;
  if oldest is not null then
    select * into needed from pgque.tick where tick_queue = q.queue_id and tick_id = oldest;
    if not found then raise exception 'queue % maint failure: tick % not found', i_queue_name, oldest; end if;
    if pg_snapshot_xmin(needed.tick_snapshot)::text::bigint <= q.queue_switch_step2 then return 0; end if;
  end if;
  update pgque.queue set queue_cur_table = (queue_cur_table + 1) % queue_ntables, queue_switch_time = now(), queue_switch_step2 = null
  where queue_id = q.queue_id;
  return 0;
end $$;

create or replace function pgque.maint_rotate_tables_step2() returns integer language plpgsql as $$
begin
  update pgque.queue set queue_switch_step2 = pg_current_xact_id()::text::bigint where queue_switch_step2 is null;
  return 0;
end $$;

create or replace function pgque.maint() returns integer language plpgsql as $$
declare
  q queue;
  extra text;
begin
  for q in select * from queue where queue_switch_time + queue_rotation_period < now() order by queue_name loop
    perform maint_rotate_tables_step1(q.queue_name);
  end loop;
  for q in select * from queue order by queue_name loop
    foreach extra in array coalesce(q.queue_extra_maint, '{}') loop
      execute format('select %s($1)', extra) using q.queue_name;
    end loop;
  end loop;
  return 0;
end $$;

create or replace function pgque.status() returns table (component text, status text, detail text) language sql as $$
  values ('postgresql', 'info', pg_catalog.version()),
         ('pgque', 'info', pgque.version()),
         ('scheduler', 'manual', (select format('ticker_job_id=NULL, maint_job_id=NULL, tick_period_ms=%s (%s ticks/sec)',
                                  tick_period_ms, round(1000.0 / tick_period_ms, 2)) from config)),
         ('ticker', 'stopped', (select format('not scheduled (tick_period_ms=%s)', tick_period_ms) from config)),
         ('maintenance', 'stopped', 'not scheduled'),
         ('pg_cron', 'unavailable', 'the stand-in has no scheduler'),
         ('pg_timetable', 'unavailable', 'the stand-in has no scheduler'),
         ('queues', 'info', (select count(*) || ' queues configured' from queue)),
         ('consumers', 'info', (select count(*) || ' active subscriptions' from subscription))
$$;

-- Dead letters --------------------------------------------------------------------------------------------------------------------
create or replace function pgque.dlq_inspect(i_queue_name text, i_limit_count integer default 100) returns setof pgque.dead_letter
language sql as $$
  select dead_letter.* from dead_letter join queue on queue_id = dl_queue_id
  where queue_name = i_queue_name order by dl_time desc limit i_limit_count
$$;

create or replace function pgque.dlq_replay(i_dead_letter_id bigint) returns bigint language plpgsql as $$
declare
  d dead_letter;
  id bigint;
begin
  select * into d from dead_letter where dl_id = i_dead_letter_id;
  if not found then raise exception 'dead letter entry not found: %', i_dead_letter_id; end if;
  id := insert_event((select queue_name from queue where queue_id = d.dl_queue_id), d.ev_type, d.ev_data, d.ev_extra1, d.ev_extra2,
    d.ev_extra3, d.ev_extra4);
  delete from dead_letter where dl_id = d.dl_id;
  return id;
end $$;

create or replace function pgque.dlq_replay_all(
  i_queue_name text, out replayed bigint, out failed bigint, out first_error text) returns record language plpgsql as $$
declare
  id bigint;
begin
  replayed := 0;
  failed := 0;
  for id in select dl_id from dead_letter join queue on queue_id = dl_queue_id where queue_name = i_queue_name order by dl_id loop
    begin
      perform dlq_replay(id);
      replayed := replayed + 1;
    exception when others then
      failed := failed + 1;
      first_error := coalesce(first_error, format('dl_id=%s: %s', id, sqlerrm));
      raise warning 'dlq_replay_all: failed to replay dl_id=%, error: %', id, sqlerrm;
    end;
  end loop;
end $$;

create or replace function pgque.dlq_purge(i_queue_name text, i_older_than interval default '30 days') returns integer
language plpgsql as $$
declare
  deleted integer;
begin
  delete from dead_letter using queue
  where queue_id = dl_queue_id and queue_name = i_queue_name and dl_time < now() - i_older_than;
  get diagnostics deleted = row_count;
  return deleted;
end $$;

-- Privileges, and whose privileges the functions run with -------------------------------------------------------------------------
grant usage on schema pgque to public;
grant select on pgque.queue, pgque.tick, pgque.subscription, pgque.consumer, pgque.retry_queue, pgque.event to public;
grant select on pgque.config, pgque.dead_letter to pgque_reader;
grant all on all tables in schema pgque to pgque_admin;
grant all on all sequences in schema pgque to pgque_admin;

do $$
declare
  producing text[] := array['send', 'send_batch', 'insert_event', 'dlq_replay', 'dlq_replay_all'];
  consuming text[] := array[
    'subscribe', 'unsubscribe', 'register_consumer', 'register_consumer_at', 'unregister_consumer', 'receive', 'ack', 'nack',
    'next_batch', 'next_batch_custom', 'finish_batch', 'event_retry', 'register_subconsumer', 'subscribe_subconsumer', 'unregister_subconsumer',
    'unsubscribe_subconsumer', 'receive_coop', 'touch_subconsumer', 'get_queue_info', 'get_consumer_info', 'get_batch_info',
    'dlq_inspect', 'version'];
  as_caller text[] := array['seq_getval', 'get_queue_info', 'maint_retry_events', 'maint_rotate_tables_step1',
    'maint_rotate_tables_step2', 'ticker_loop'];
  r record;
begin
  for r in select oid::regprocedure as signature, proname from pg_proc where pronamespace = 'pgque'::regnamespace loop
    execute format('revoke all on routine %s from public', r.signature);
    if r.proname <> all (as_caller) then
      execute format('alter routine %s security definer set search_path = pgque, pg_catalog, pg_temp', r.signature);
    end if;
    if r.proname = any (producing) then
      execute format('grant execute on routine %s to pgque_writer', r.signature);
    elsif r.proname = any (consuming) then
      execute format('grant execute on routine %s to pgque_reader', r.signature);
    elsif left(r.proname, 1) <> '_' then
      execute format('grant execute on routine %s to pgque_admin', r.signature);
    end if;
  end loop;
end $$;

reset search_path;
reset client_min_messages;
