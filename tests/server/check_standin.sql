-- The calls that check_standin.sh compares. Each answer goes to the transcript with its SQLSTATE.
\set dsn `echo "$PGQUE_TEST_DSN"`
\pset format unaligned
\pset null <null>
\pset footer off
\set VERBOSITY verbose
\set SHOW_CONTEXT never
\set ECHO queries
set timezone = 'UTC';
set statement_timeout = '20s';
create schema chk;
create extension dblink schema chk;
create role chk_none;
create role chk_reader in role pgque_reader;
create role chk_writer in role pgque_writer;
create role chk_admin in role pgque_admin;

-- The state that must be equal on both.
create view chk.subs as
  select queue_name, co_name, sub_id, sub_last_tick, sub_next_tick, sub_batch, sub_role
  from pgque.subscription join pgque.queue on queue_id = sub_queue join pgque.consumer on co_id = sub_consumer order by 1, 2;
create view chk.retries as
  select queue_name, ev_id, ev_txid is null as no_txid, ev_owner, ev_retry, ev_type, ev_data,
         round(extract(epoch from ev_retry_after - now())) as due_in
  from pgque.retry_queue join pgque.queue on queue_id = ev_queue order by 1, 2, ev_owner;
create view chk.dead as
  select dl_id, queue_name, co_name, dl_reason, ev_id, ev_txid is null as no_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra4
  from pgque.dead_letter join pgque.queue on queue_id = dl_queue_id join pgque.consumer on co_id = dl_consumer_id order by 1;
create function chk.msg(id bigint) returns pgque.message language sql as
  $$ select row(id, null, null, null, null, null, null, null, null, null)::pgque.message $$;
-- Makes everything sent so far visible.
create function chk.tick(q text) returns void language plpgsql as
  $$ begin perform pgque.force_next_tick(q); perform pgque.ticker(q); end $$;

--- Interface: the functions' names, arguments, results and rights
create temp table wanted (proname text);
insert into wanted select unnest(string_to_array(
  'create_queue drop_queue set_queue_config send send_batch insert_event insert_event_raw subscribe unsubscribe register_consumer '
  'register_consumer_at unregister_consumer receive ack nack next_batch next_batch_custom finish_batch event_retry force_next_tick force_tick ticker '
  'ticker_loop set_tick_period_ms maint maint_retry_events maint_rotate_tables_step1 maint_rotate_tables_step2 dlq_inspect '
  'dlq_replay dlq_replay_all dlq_purge get_consumer_info get_queue_info get_batch_info version status register_subconsumer '
  'subscribe_subconsumer unregister_subconsumer unsubscribe_subconsumer receive_coop touch_subconsumer', ' '));
select p.oid::regprocedure, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), proisstrict, prokind,
       has_function_privilege('chk_none', p.oid, 'execute') as anybody, has_function_privilege('chk_reader', p.oid, 'execute') as r,
       has_function_privilege('chk_writer', p.oid, 'execute') as w, has_function_privilege('chk_admin', p.oid, 'execute') as a
from pg_proc p where pronamespace = 'pgque'::regnamespace and proname in (select proname from wanted) order by p.oid::regprocedure::text;
select attname, atttypid::regtype from pg_attribute where attrelid = 'pgque.message'::regclass order by attnum;
select attname, atttypid::regtype, attnotnull from pg_attribute where attrelid = 'pgque.dead_letter'::regclass and attnum > 0 order by attnum;
select attname, atttypid::regtype, attnotnull from pg_attribute where attrelid = 'pgque.retry_queue'::regclass and attnum > 0 order by attnum;
select attname, atttypid::regtype, attnotnull from pg_attribute where attrelid = 'pgque.subscription'::regclass and attnum > 0 order by attnum;
select attname, atttypid::regtype, attnotnull from pg_attribute where attrelid = 'pgque.tick'::regclass and attnum > 0 order by attnum;
select attname, atttypid::regtype, attnotnull from pg_attribute where attrelid = 'pgque.config'::regclass and attnum > 0 order by attnum;
select to_jsonb(config) - 'installed_at' from pgque.config;
select role, rel, has_table_privilege(role, 'pgque.' || rel, 'select') as reads, has_table_privilege(role, 'pgque.' || rel, 'insert') as writes
from unnest('{chk_none,chk_reader,chk_writer,chk_admin}'::text[]) role,
     unnest('{queue,tick,subscription,consumer,retry_queue,dead_letter,config}'::text[]) rel order by 1, 2;
select role, has_schema_privilege(role, 'pgque', 'usage') from unnest('{chk_none,chk_reader,chk_writer,chk_admin}'::text[]) role;
select pgque.version() like '0.2%';

--- Queues
select pgque.create_queue('q');
select pgque.create_queue('q');
select pgque.create_queue(null);
select pgque.create_queue('');
select pgque.create_queue('Odd "Name" ü''$');
select pgque.create_queue(repeat('x', 57));
select pgque.create_queue(repeat('x', 58));
select pgque.create_queue(repeat('ü', 29));
select pgque.drop_queue('');
select pgque.drop_queue(null);
select pgque.drop_queue(null, true);
select pgque.drop_queue('nope');
select pgque.drop_queue('nope', true);
select pgque.drop_queue('Odd "Name" ü''$');
select pgque.create_queue('cfg');
select pgque.set_queue_config(null, 'max_retries', '1');
select pgque.set_queue_config('cfg', null, '1');
select pgque.set_queue_config('nope', 'max_retries', '1');
select pgque.set_queue_config('nope', 'bogus', '1');
select pgque.set_queue_config('cfg', 'bogus', '1');
select pgque.set_queue_config('cfg', '', '1');
select pgque.set_queue_config('cfg', 'disable_insert', 'true');
select pgque.set_queue_config('cfg', 'ticker_max_count', '0');
select pgque.set_queue_config('cfg', 'ticker_max_count', 'abc');
select pgque.set_queue_config('cfg', 'ticker_max_count', '99999999999');
select pgque.set_queue_config('cfg', 'ticker_max_count', '7');
select pgque.set_queue_config('cfg', 'max_retries', '-1');
select pgque.set_queue_config('cfg', 'max_retries', 'abc');
select pgque.set_queue_config('cfg', 'max_retries', '99999999999');
select pgque.set_queue_config('cfg', 'max_retries', '0');
select pgque.set_queue_config('cfg', 'ticker_max_lag', '0');
select pgque.set_queue_config('cfg', 'ticker_max_lag', '-1 second');
select pgque.set_queue_config('cfg', 'ticker_max_lag', 'abc');
select pgque.set_queue_config('cfg', 'ticker_max_lag', '100 ms');
select pgque.set_queue_config('cfg', 'ticker_idle_period', '0');
select pgque.set_queue_config('cfg', 'ticker_idle_period', '2 minutes');
select pgque.set_queue_config('cfg', 'rotation_period', '0');
select pgque.set_queue_config('cfg', 'rotation_period', '1 hour');
select pgque.set_queue_config('cfg', 'ticker_paused', 'abc');
select pgque.set_queue_config('cfg', 'ticker_paused', 'true');
select pgque.set_queue_config('cfg', 'external_ticker', 'abc');
select pgque.set_queue_config('cfg', 'external_ticker', 'on');
select queue_ticker_max_count, queue_max_retries, queue_ticker_max_lag, queue_ticker_idle_period, queue_rotation_period,
       queue_ticker_paused, queue_external_ticker from pgque.queue where queue_name = 'cfg';
select pgque.set_queue_config('cfg', name, null)
from unnest('{ticker_max_count,max_retries,ticker_max_lag,ticker_idle_period,rotation_period,ticker_paused,external_ticker}'::text[]) name;
select queue_ticker_max_count, queue_max_retries, queue_ticker_max_lag, queue_ticker_idle_period, queue_rotation_period,
       queue_ticker_paused, queue_external_ticker from pgque.queue where queue_name = 'cfg';

--- Producing
select pgque.send('nope', 'a');
select pgque.send(null, 'a');
select pgque.send('', 'a');
select pgque.send('nope', 't', 'a'), 1;
select pgque.send('nope', '{}'::jsonb);
select pgque.send('nope', 't', '{}'::jsonb);
select pgque.send_batch('nope', '{a}'::text[]);
select pgque.send_batch(null, 't', '{a}'::text[]);
select pgque.send_batch('nope', 't', array['{}'::jsonb]);
select pgque.insert_event('nope', 't', 'd');
select pgque.insert_event(null, 't', 'd', '1', '2', '3', '4');
select pgque.insert_event_raw('nope', null, now(), null, null, 't', 'd', null, null, null, null);
select pgque.send_batch('q', null::text[]);
select pgque.send_batch('q', 't', null::jsonb[]);
select pgque.send_batch('nope', 't', null::text[]);
select pgque.send_batch('nope', '{}'::text[]);
select pgque.send_batch('nope', 't', '{}'::jsonb[]);
select pgque.send_batch('q', '{a}');
select pgque.send_batch('q', 't', '{a}');
select pgque.send_batch('q', array[1]);
select pgque.send('q', 1);
select pgque.send('q', 't', '{bad'::jsonb);
select pgque.send('q', 't', '"\u0000"'::jsonb);
select pgque.send('q', 't', '"\ud800"'::jsonb);
select pgque.subscribe('q', 'c');
select pgque.send('q', '{"b":1, "a":2,"a":3}');
select pgque.send('q', '{"b":1, "a":2,"a":3, "e":1e3}'::jsonb);
select pgque.send('q', 'type', 'text \u0000');
select pgque.send('q', 'type', 'null'::jsonb);
select pgque.send('q', null, null::text);
select pgque.send('q', '', '');
select pgque.send_batch('q', '{a,NULL,"c d"}'::text[]);
select pgque.send_batch('q', 'type', array['{"z": 1,"y":[1, 2]}', 'null', null]::jsonb[]);
select pgque.send_batch('q', 'type', array[['1','2'],['3','4']]::text[]);
select pgque.send_batch('q', array[['1','2'],['3','4']]::jsonb[]);
select pgque.send_batch('q', 'v', array['x']::varchar[]);
select pgque.insert_event('q', 'ie', 'data');
select pgque.insert_event('q', 'ie', 'data', 'x1', 'x2', 'x3', 'x4');
select pgque.insert_event_raw('q', null, '2020-01-01', null, null, 'raw', 'data', 'x1', 'x2', 'x3', 'x4');
select pgque.insert_event_raw('q', 1000000, '2020-01-01', null, 3, 'raw', null, null, null, null, null);
begin;
select pgque.send('q', 'burnt');
rollback;
select pgque.send('q', 'after');
select chk.tick('q');
select * from pgque.receive('q', 'c', null);
select pgque.ack(1);
update pgque.queue set queue_disable_insert = true where queue_name = 'q';
select pgque.send('q', 'a');
select pgque.send_batch('q', '{a}'::text[]);
select pgque.insert_event('q', 't', 'd');
update pgque.queue set queue_disable_insert = false where queue_name = 'q';

--- Subscribing
select pgque.subscribe('nope', 'c');
select pgque.subscribe(null, 'c');
select pgque.subscribe('', 'c');
select pgque.subscribe('q', null);
select pgque.subscribe('q', 'c');
select pgque.subscribe('q', '');
select pgque.subscribe('q', 'a.b');
select pgque.register_consumer('q', 'rc');
select pgque.register_consumer('q', 'rc');
select pgque.register_consumer('nope', 'rc');
select pgque.register_consumer('nope', null);
select pgque.register_consumer_at('q', 'at', 999);
select pgque.register_consumer_at('nope', 'at', 1);
select pgque.register_consumer_at('q', null, 1);
select pgque.register_consumer_at('q', 'at', 1);
select * from chk.subs;
select pgque.next_batch('q', 'at');
select pgque.register_consumer_at('q', 'at', 999);
select pgque.register_consumer_at('q', 'at', null);
select * from chk.subs where co_name = 'at';
select pgque.register_consumer_at('q', 'at', 1);
select * from chk.subs where co_name = 'at';
select pgque.unsubscribe('nope', 'c');
select pgque.unsubscribe('q', 'nope');
select pgque.unsubscribe(null, null);
select pgque.unsubscribe('q', 'a.b');
select pgque.unsubscribe('q', '');
select pgque.unregister_consumer('q', 'rc');
select pgque.unregister_consumer('q', 'rc');
select pgque.next_batch('q', 'at');
select pgque.unsubscribe('q', 'at');
select pgque.ack(3);
select * from pgque.consumer order by co_id;
delete from pgque.tick where tick_queue = (select queue_id from pgque.queue where queue_name = 'cfg');
select pgque.subscribe('cfg', 'c');
select pgque.register_subconsumer('cfg', 'g', 'w');
select pgque.drop_queue('cfg');

--- Receive, ack, nack
select * from pgque.receive('nope', 'c');
select * from pgque.receive('q', 'nope');
select * from pgque.receive(null, null);
select * from pgque.receive('q', 'c', 0);
select * from pgque.receive('q', 'c', -5);
select * from pgque.receive('nope', 'c', 0);
select * from pgque.receive('q', 'c', 1::bigint);
select * from pgque.receive('q', 'c', 1::smallint);
select pgque.next_batch('nope', 'c');
select pgque.next_batch(null, null);
select pgque.next_batch('q', 'c');
select pgque.ack(999999);
select pgque.ack(null);
select pgque.ack(0);
select pgque.ack(-1);
select pgque.finish_batch(999999);
select pgque.nack(999999, chk.msg(1));
select pgque.nack(null, chk.msg(1));
select pgque.nack(null, null);
select pgque.event_retry(999999, 1, 1);
select pgque.event_retry(999999, 1, now());
select pgque.event_retry(999999, 1, '1');
select * from pgque.get_batch_info(999999);
select * from pgque.get_batch_info(null);
select chk.tick('q');
select chk.tick('q');
select * from pgque.receive('q', 'c');
select * from chk.subs;
select pgque.next_batch('q', 'c');
select * from pgque.receive('q', 'c');
select pgque.next_batch('q', 'c');
select array_length(pgque.send_batch('q', 'n', array(select 'p' || i from generate_series(1, 12) i)), 1);
select chk.tick('q');
select msg_id, batch_id, retry_count from pgque.receive('q', 'c', 3);
select msg_id, batch_id, retry_count, payload from pgque.receive('q', 'c', 5);
select count(*) from pgque.receive('q', 'c');
-- The batch id and the first message's id, so that no number has to be spelt out.
select batch_id as b, msg_id as m from pgque.receive('q', 'c', 1) \gset
select pgque.nack(:b, chk.msg(1));
select pgque.nack(:b, chk.msg(null));
select pgque.nack(:b, null);
select pgque.nack(:b, '(4009)');
select pgque.nack(:b, chk.msg(:m), null);
select pgque.nack(:b, chk.msg(:m), '100 years');
select pgque.nack(:b, chk.msg(:m), '60 seconds'::text);
select pgque.nack(:b, chk.msg(:m));
select pgque.nack(:b, chk.msg(:m), '5 seconds');
select pgque.nack(:b, row(:m + 1, 77, 'forged', 'forged', 9, null, 'x', null, null, null)::pgque.message, '0.5 seconds', 'why');
select pgque.nack(:b, chk.msg(:m + 2), '0.4 seconds');
select pgque.nack(:b, chk.msg(:m + 3), '1.5 seconds');
select pgque.nack(:b, chk.msg(:m + 4), '-10 seconds');
select pgque.nack(:b, chk.msg(:m + 5), '1 month');
select pgque.event_retry(:b, :m + 6, 30);
select pgque.event_retry(:b, :m + 6, 40);
select pgque.event_retry(:b, :m + 7, now() + interval '50 seconds');
select pgque.event_retry(:b, :m + 7, now());
select pgque.event_retry(:b, 1, 30);
select pgque.event_retry(:b, null::bigint, 30);
select pgque.event_retry(:b, :m + 8, null::integer);
select pgque.event_retry(:b, :m + 8, null::timestamptz);
select pgque.event_retry(:b, :m + 8, '1');
select * from chk.retries;
select count(*), count(retry_count) from pgque.receive('q', 'c');
select * from pgque.get_batch_info(:b);
select queue_name, consumer_name, last_tick, current_batch, next_tick, pending_events from pgque.get_consumer_info('q', 'c');
select pgque.ack(:b);
select pgque.ack(:b);
select pgque.nack(:b, chk.msg(:m));
update pgque.retry_queue set ev_retry_after = now();
select pgque.maint_retry_events();
select pgque.maint_retry_events();
select chk.tick('q');
select msg_id, type, payload, retry_count from pgque.receive('q', 'c');
select pgque.subscribe('q', 'other');
select msg_id from pgque.receive('q', 'other');
select pgque.unsubscribe('q', 'other');
select pgque.ack(batch_id) from pgque.receive('q', 'c', 1);
-- Only the consumer that asked for it sees a retry.
select pgque.subscribe('q', 'other');
select pgque.send('q', 'shared');
select chk.tick('q');
select pgque.nack(batch_id, chk.msg(msg_id), '0') from pgque.receive('q', 'c');
select pgque.ack(batch_id) from pgque.receive('q', 'c');
select pgque.ack(batch_id) from pgque.receive('q', 'other');
select pgque.maint_retry_events();
select pgque.send('q', 'late');
select chk.tick('q');
select payload, retry_count from pgque.receive('q', 'c');
select payload, retry_count from pgque.receive('q', 'other');
-- Nacked again after the first copy has gone back to the queue: delivered twice.
select pgque.nack(batch_id, chk.msg(msg_id), '0') from pgque.receive('q', 'other');
select pgque.maint_retry_events();
select pgque.nack(batch_id, chk.msg(msg_id), '0') from pgque.receive('q', 'other');
select * from chk.retries;
select pgque.maint_retry_events();
select pgque.ack(batch_id) from pgque.receive('q', 'other', 1);
select chk.tick('q');
select payload, retry_count from pgque.receive('q', 'other');
-- Then it gets no retry, whatever the answers say.
select pgque.nack(batch_id, chk.msg(msg_id), '0') from pgque.receive('q', 'other', 1);
select pgque.event_retry(batch_id, msg_id, 0) from pgque.receive('q', 'other', 1);
select * from chk.retries;
-- Unsubscribing forgets pending retries.
select pgque.nack(batch_id, chk.msg(msg_id), '0') from pgque.receive('q', 'other', 1);
select pgque.unsubscribe('q', 'other');
select * from chk.retries;
select pgque.ack(batch_id) from pgque.receive('q', 'c', 1);
-- Ten per call.
select array_length(pgque.send_batch('q', array(select i::text from generate_series(1, 25) i)), 1);
select chk.tick('q');
select * from pgque.receive('q', 'c');
select count(pgque.nack(batch_id, chk.msg(msg_id), '0')) from pgque.receive('q', 'c', null);
select pgque.ack(batch_id) from pgque.receive('q', 'c', 1);
select pgque.maint_retry_events();
select pgque.maint_retry_events();
select pgque.maint_retry_events();
select pgque.maint_retry_events();
select chk.tick('q');
select count(*), min(retry_count), max(retry_count) from pgque.receive('q', 'c');
select pgque.ack(batch_id) from pgque.receive('q', 'c', 1);

-- A moved retry counts as a new event for the ticker.
select pgque.send('q', 'again');
select chk.tick('q');
select pgque.nack(batch_id, chk.msg(msg_id), '0') from pgque.receive('q', 'c');
select pgque.ack(batch_id) from pgque.receive('q', 'c', 1);
select pgque.ticker('q');
select pgque.maint_retry_events();
update pgque.tick set tick_time = now() - interval '3 seconds' where tick_queue = (select queue_id from pgque.queue where queue_name = 'q');
select pgque.ticker('q') > 0;
select payload, retry_count from pgque.receive('q', 'c');
select pgque.ack(batch_id) from pgque.receive('q', 'c', 1);

--- Transactions
begin;
select pgque.send('q', 'same transaction'), pgque.force_next_tick('q'), pgque.ticker('q');
select * from pgque.receive('q', 'c');
commit;
select chk.tick('q');
select payload from pgque.receive('q', 'c');
select payload from pgque.receive('q', 'c');
begin;
select pgque.nack(batch_id, chk.msg(msg_id), '0') from pgque.receive('q', 'c');
select pgque.ack(batch_id) from pgque.receive('q', 'c', 1);
select pgque.maint_retry_events();
select chk.tick('q');
select payload from pgque.receive('q', 'c');
select payload from pgque.receive('q', 'c');
commit;
select chk.tick('q');
select payload, retry_count from pgque.receive('q', 'c');
select payload, retry_count from pgque.receive('q', 'c');
select pgque.ack(batch_id) from pgque.receive('q', 'c', 1);
begin;
select pgque.send('q', 'rolled back receive');
commit;
select chk.tick('q');
begin;
select batch_id as first_batch from pgque.receive('q', 'c') \gset
rollback;
select batch_id > :first_batch, payload from pgque.receive('q', 'c');
select pgque.ack(batch_id) from pgque.receive('q', 'c', 1);

--- Dead letters
select pgque.create_queue('d');
select pgque.subscribe('d', 'dc');
select pgque.subscribe('d', 'd2');
select pgque.send_batch('d', 'dt', '{one,two,three,four}'::text[]);
select chk.tick('d');
-- From the first delivery to the grave.
create procedure chk.exhaust(times integer) language plpgsql as $$
declare
  r record;
begin
  for i in 1..times loop
    for r in select * from pgque.receive('d', 'dc') loop
      raise notice 'delivery %: % %', i, r.payload, r.retry_count;
      perform pgque.nack(r.batch_id, chk.msg(r.msg_id), '0', 'because ' || i);
    end loop;
    perform pgque.ack(r.batch_id);
    commit;
    perform pgque.maint_retry_events();
    commit;
    perform chk.tick('d');
    commit;
  end loop;
end $$;
select pgque.set_queue_config('d', 'max_retries', '1');
call chk.exhaust(2);
select * from chk.dead;
select pgque.receive('d', 'dc');
select pgque.set_queue_config('d', 'max_retries', '0');
select pgque.insert_event('d', 'ie', 'data', 'x1', 'x2', 'x3', 'x4');
select pgque.send('d', 'no reason');
select chk.tick('d');
select batch_id as b, msg_id as m from pgque.receive('d', 'dc', 1) \gset
select pgque.nack(:b, chk.msg(:m), '0', '');
select pgque.nack(:b, chk.msg(:m), '0', 'second');
select pgque.nack(:b, chk.msg(:m + 1));
select count(*) from pgque.receive('d', 'dc');
select pgque.ack(:b);
select * from chk.dead;
select * from chk.retries;
select dl_id, dl_reason, ev_id, ev_retry, ev_type, ev_data, ev_extra1 from pgque.dlq_inspect('d', 1);
select count(*) from pgque.dlq_inspect('d', null);
select count(*) from pgque.dlq_inspect('d', 0);
select count(*) from pgque.dlq_inspect('d', -1);
select count(*) from pgque.dlq_inspect('nope');
select count(*) from pgque.dlq_inspect(null);
select pgque.dlq_replay(999);
select pgque.dlq_replay(null);
select pgque.dlq_replay(5);
select pgque.dlq_replay(5);
update pgque.queue set queue_disable_insert = true where queue_name = 'd';
select pgque.dlq_replay(1);
select * from pgque.dlq_replay_all('d');
update pgque.queue set queue_disable_insert = false where queue_name = 'd';
select * from pgque.dlq_replay_all('nope');
select * from pgque.dlq_replay_all(null);
select * from pgque.dlq_replay_all('d');
select * from pgque.dlq_replay_all('d');
select chk.tick('d');
select type, payload, retry_count, extra1, extra4 from pgque.receive('d', 'dc');
select pgque.nack(batch_id, chk.msg(msg_id)) from pgque.receive('d', 'dc');
select pgque.dlq_purge('d');
select pgque.dlq_purge('nope', '0');
select pgque.dlq_purge('d', null);
select count(*) from chk.dead;
select pgque.dlq_purge('d', '-1 second');
-- The consumer's dead letters go with its last subscription.
select pgque.nack(batch_id, chk.msg(msg_id)) from pgque.receive('d', 'dc', 2);
select pgque.drop_queue('d');
select pgque.drop_queue('d', false);
select pgque.drop_queue('d', null);
select pgque.unsubscribe('d', 'dc');
select count(*) from chk.dead;
select pgque.drop_queue('d', true);
select * from pgque.consumer order by co_id;

--- Cooperative consumers
select pgque.create_queue('co');
select pgque.register_subconsumer(null, 'g', 'w');
select pgque.register_subconsumer('', 'g', 'w');
select pgque.register_subconsumer('co', null, 'w');
select pgque.register_subconsumer('co', '', 'w');
select pgque.register_subconsumer('co', 'g', null);
select pgque.register_subconsumer('co', 'g', '');
select pgque.register_subconsumer('co', 'g.x', 'w');
select pgque.register_subconsumer('co', 'g', 'w.1');
select pgque.register_subconsumer('co', 'g.x', 'w.1');
select pgque.register_subconsumer('nope', 'g', 'w');
select pgque.receive_coop('co', 'g.x', 'w');
select pgque.receive_coop('co', 'g', '');
select pgque.receive_coop('nope', 'g', 'w');
select pgque.receive_coop('co', 'g', 'w', 0);
select pgque.receive_coop('co', 'g', '', 0);
select pgque.touch_subconsumer('co', 'g', 'w.1');
select pgque.touch_subconsumer('', 'g', 'w');
select pgque.touch_subconsumer('nope', 'g', 'w');
select pgque.unregister_subconsumer('co', 'g', 'w.1');
select pgque.unregister_subconsumer('co', 'g', null);
select pgque.unregister_subconsumer('nope', 'g', 'w');
select pgque.unregister_subconsumer('nope', 'g', 'w', 2);
select pgque.subscribe('co', 'norm');
select pgque.register_subconsumer('co', 'norm', 'w');
select pgque.receive_coop('co', 'norm', 'w');
select pgque.next_batch('co', 'norm', 'w');
select pgque.unregister_subconsumer('co', 'norm', 'w');
select pgque.touch_subconsumer('co', 'norm', 'w');
select pgque.subscribe_subconsumer('co', 'norm', 'w', true);
select pgque.subscribe_subconsumer('co', 'norm', 'w', true);
select pgque.subscribe_subconsumer('co', 'norm', 'w');
select pgque.subscribe('co', 'norm');
select pgque.subscribe('co', 'norm.w');
select pgque.subscribe('co', 'nul');
select pgque.subscribe_subconsumer('co', 'nul', 'w', null);
select pgque.subscribe('co', 'act');
select pgque.send('co', 'zero');
select chk.tick('co');
select pgque.next_batch('co', 'act');
select pgque.register_subconsumer('co', 'act', 'w', true);
select pgque.register_subconsumer('co', 'act', 'w');
select pgque.subscribe('co', 'g.w9');
select pgque.register_subconsumer('co', 'g', 'w9');
select pgque.receive('co', 'norm');
select pgque.receive('co', 'norm.w');
select pgque.next_batch('co', 'norm.w');
select * from chk.subs where queue_name = 'co';
select pgque.unsubscribe('co', 'norm');
select pgque.unsubscribe('co', 'norm.w');
select * from chk.subs where queue_name = 'co';
select pgque.register_subconsumer('co', 'norm', 'w');
select pgque.unsubscribe_subconsumer('co', 'nul', 'w');
select * from chk.subs where queue_name = 'co';
select pgque.unsubscribe('co', 'norm'), pgque.unsubscribe('co', 'nul'), pgque.unsubscribe('co', 'act'), pgque.unsubscribe('co', 'g.w9');

select pgque.subscribe_subconsumer('co', 'g', 'w1'), pgque.register_subconsumer('co', 'g', 'w2');
select pgque.next_batch('co', 'g', 'w1');
create procedure chk.fill(q text, n integer) language plpgsql as $$
begin
  for i in 1..n loop
    perform pgque.send_batch(q, 't', array['a' || i, 'b' || i]);
    commit;
    perform chk.tick(q);
    commit;
  end loop;
end $$;
call chk.fill('co', 4);
select batch_id, payload from pgque.receive_coop('co', 'g', 'w1');
select batch_id, payload from pgque.receive_coop('co', 'g', 'w2', 1);
select batch_id, payload from pgque.receive_coop('co', 'g', 'w1', null);
select * from chk.subs where queue_name = 'co';
select pgque.touch_subconsumer('co', 'g', 'w1');
select pgque.touch_subconsumer('co', 'g', 'w3');
select queue_name, consumer_name, last_tick, current_batch, next_tick, pending_events from pgque.get_consumer_info('co');
-- A heartbeat is dated to when it comes, everything else to the beginning of its transaction. So nothing is stolen within one.
begin;
select payload from pgque.receive_coop('co', 'g', 'w1');
select payload from pgque.receive_coop('co', 'g', 'w2');
select co_name, sub_active > now() as later from pgque.subscription join pgque.consumer on co_id = sub_consumer where co_name in ('g.w1', 'g.w2') order by 1;
select payload from pgque.receive_coop('co', 'g', 'w3', 100, '0');
select pgque.touch_subconsumer('co', 'g', 'w1');
select co_name, sub_active > now() as later from pgque.subscription join pgque.consumer on co_id = sub_consumer where co_name in ('g.w1', 'g.w2') order by 1;
rollback;
-- Whoever asks is alive, also without a batch.
begin;
update pgque.subscription set sub_active = now() - interval '1 hour';
select pgque.receive_coop('co', 'g', 'w3', 100, null) is null as empty;
select pgque.register_subconsumer('co', 'g', 'w2');
select co_name, sub_active = now() as alive from pgque.subscription join pgque.consumer on co_id = sub_consumer where co_name like 'g%' order by 1;
rollback;
-- A third member: not stolen within the interval, then stolen from the stalest.
select batch_id, payload from pgque.receive_coop('co', 'g', 'w3', 100, '1 hour');
select pgque.ack(batch_id) from pgque.receive_coop('co', 'g', 'w3');
select sub_batch as old from pgque.subscription join pgque.consumer on co_id = sub_consumer where co_name = 'g.w2' \gset
select batch_id, payload, retry_count from pgque.receive_coop('co', 'g', 'w3', 100, '0');
select pgque.ack(:old);
select pgque.nack(:old, chk.msg(1));
select * from chk.subs where queue_name = 'co';
select batch_id, payload from pgque.receive_coop('co', 'g', 'w2', 100, '-1 second');
select batch_id, payload from pgque.receive_coop('co', 'g', 'w1', 100, '0');
select pgque.next_batch('co', 'g', 'w4', '1 hour');
select pgque.next_batch('co', 'g', 'w4');
select pgque.unsubscribe('co', 'g');
select pgque.unsubscribe('co', 'g.w2');
select pgque.unsubscribe_subconsumer('co', 'g', 'w2');
select pgque.unsubscribe_subconsumer('co', 'g', 'w2', 2);
select pgque.unsubscribe_subconsumer('co', 'g', 'w2', -1);
select pgque.unsubscribe_subconsumer('co', 'g', 'nope', 2);
select pgque.drop_queue('co', true);
-- Giving up a batch on leaving: retried, or dead when there is no retry left.
select pgque.unsubscribe_subconsumer('co', 'g', 'w2', 1);
select pgque.set_queue_config('co', 'max_retries', '0');
select pgque.unsubscribe_subconsumer('co', 'g', 'w3', null);
select * from chk.retries;
select * from chk.dead;
select * from chk.subs where queue_name = 'co';
select pgque.set_queue_config('co', 'max_retries', null);
select pgque.unsubscribe_subconsumer('co', 'g', 'w1', 1);
-- A member's nacks belong to the group.
call chk.fill('co', 1);
select pgque.nack(batch_id, chk.msg(msg_id), '0', 'nacked') from pgque.receive_coop('co', 'g', 'w4');
select pgque.ack(batch_id) from pgque.receive_coop('co', 'g', 'w4', 1);
select pgque.nack(batch_id, chk.msg(msg_id), '0', 'nacked') from pgque.receive_coop('co', 'g', 'w4');
select * from chk.retries;
update pgque.retry_queue set ev_retry_after = now() - interval '1 second';
select pgque.maint_retry_events();
select chk.tick('co');
select pgque.ack(batch_id) from pgque.receive_coop('co', 'g', 'w4', 1);
select batch_id, payload, retry_count from pgque.receive_coop('co', 'g', 'w5');
select batch_id, payload, retry_count from pgque.receive_coop('co', 'g', 'w5');
select pgque.set_queue_config('co', 'max_retries', '0');
select pgque.nack(batch_id, chk.msg(msg_id), '0') from pgque.receive_coop('co', 'g', 'w5', 1);
select * from chk.dead;
select pgque.ack(batch_id) from pgque.receive_coop('co', 'g', 'w5', 1);
select pgque.unsubscribe_subconsumer('co', 'g', 'w5', 1), pgque.unsubscribe_subconsumer('co', 'g', 'w4', 1);
select * from chk.subs where queue_name = 'co';
select pgque.receive_coop('co', 'g', 'w5');
select pgque.drop_queue('co', true);

--- Batches of several windows, and old ones
select pgque.create_queue('w'), pgque.subscribe('w', 'c');
create procedure chk.windows(q text, variadic sizes integer[]) language plpgsql as $$
declare
  n integer;
begin
  update pgque.queue set queue_external_ticker = true where queue_name = q;
  foreach n in array sizes loop
    perform pgque.send_batch(q, 't', array_fill('x'::text, array[n]));
    commit;
    perform pgque.ticker(q, tick_id + 1, timestamptz '2020-01-01' + (tick_id + 1) * interval '1 minute', tick_event_seq + n)
    from pgque.tick join pgque.queue on queue_id = tick_queue where queue_name = q order by tick_id desc limit 1;
    commit;
  end loop;
end $$;
update pgque.tick set tick_time = timestamptz '2020-01-01' + tick_id * interval '1 minute'
where tick_queue = (select queue_id from pgque.queue where queue_name = 'w');
call chk.windows('w', 3, 3, 3, 3);
begin;
create function chk.custom(lag interval, count integer, span interval) returns text language plpgsql as $$
declare
  r record;
  messages bigint;
begin
  select * into r from pgque.next_batch_custom('w', 'c', lag, count, span);
  if r.batch_id is null then return row_to_json(r)::text; end if;
  select count(*) into messages from pgque.receive('w', 'c', null);
  perform pgque.finish_batch(r.batch_id);
  return format('%s %s..%s %s..%s %s..%s', messages, r.prev_tick_id, r.cur_tick_id, r.prev_tick_time, r.cur_tick_time,
                r.prev_tick_event_seq, r.cur_tick_event_seq);
end $$;
commit;
select chk.custom(null, 13, null);
begin; select chk.custom(null, 12, null); rollback;
begin; select chk.custom(null, 6, null); rollback;
begin; select chk.custom(null, 5, null); rollback;
begin; select chk.custom(null, 0, null); rollback;
begin; select chk.custom(null, -1, null); rollback;
begin; select chk.custom(null, null, '5 minutes'); rollback;
begin; select chk.custom(null, null, '4 minutes'); rollback;
begin; select chk.custom(null, null, '2 minutes'); rollback;
begin; select chk.custom(null, null, '119 seconds'); rollback;
begin; select chk.custom(null, null, '1 minute'); rollback;
begin; select chk.custom(null, 100, '1 minute'); rollback;
begin; select chk.custom(null, 1, '100 minutes'); rollback;
begin; select chk.custom('1 hour', null, null); rollback;
begin; select chk.custom('1 hour', 6, null); rollback;
begin; select chk.custom('100 years', null, null); rollback;
begin; select chk.custom('100 years', 6, null); rollback;
-- An open batch is given as it is.
begin;
select batch_id > 0, cur_tick_id, prev_tick_id from pgque.next_batch_custom('w', 'c', null, 6, null);
select batch_id > 0, cur_tick_id, prev_tick_id from pgque.next_batch_custom('w', 'c', '100 years', 100, null);
rollback;
select chk.custom(null, 3, null);
select chk.custom(null, 12, null);
select chk.custom(null, 9, null);
select chk.custom(null, 0, null);
select * from pgque.next_batch_custom('w', 'nope', null, 1, null);
-- The same for groups.
select pgque.create_queue('wg');
update pgque.tick set tick_time = timestamptz '2020-01-01' + tick_id * interval '1 minute'
where tick_queue = (select queue_id from pgque.queue where queue_name = 'wg');
select pgque.subscribe_subconsumer('wg', 'wide', 'w1'), pgque.subscribe_subconsumer('wg', 'wide', 'w2');
call chk.windows('wg', 3, 3, 3, 3, 0, 0);
select batch_id, prev_tick_id, next_tick_id from pgque.next_batch_custom('wg', 'wide', 'w1', null, 13, null);
select batch_id, prev_tick_id, next_tick_id from pgque.next_batch_custom('wg', 'wide', 'w1', '100 years', null, null);
select batch_id > 0, prev_tick_id, next_tick_id from pgque.next_batch_custom('wg', 'wide', 'w1', '1 hour', 5, null);
select batch_id > 0, prev_tick_id, next_tick_id from pgque.next_batch_custom('wg', 'wide', 'w1', '100 years', 100, null);
select * from chk.subs where queue_name = 'wg';
select batch_id > 0, prev_tick_id, next_tick_id from pgque.next_batch_custom('wg', 'wide', 'w2', '100 years', 100, null, '-1 second');
select * from chk.subs where queue_name = 'wg';
select batch_id > 0, prev_tick_id, next_tick_id from pgque.next_batch_custom('wg', 'wide', 'w1', null, null, '4 minutes');
select * from pgque.next_batch_custom('wg', 'wide', 'w3', null, 0, null);
select pgque.next_batch_custom('wg', 'wide', 'w.3', null, 0, null);
select * from pgque.next_batch_custom('wg', 'wide', null, 1, null);

--- Ticker
select pgque.create_queue('t');
select pgque.ticker('nope');
select pgque.ticker(null);
select pgque.force_next_tick('nope');
select pgque.force_tick(null);
select pgque.ticker('nope', 1, now(), 1);
select pgque.ticker(null, 1, now(), 1);
select pgque.ticker('t', 5, now(), 1);
select pgque.force_next_tick('t');
select pgque.force_tick('t');
select pgque.ticker('t');
select pgque.ticker('t');
select pgque.set_queue_config('t', 'ticker_paused', 'true');
select pgque.ticker('t');
select pgque.force_next_tick('t');
select pgque.ticker('t', 5, now(), 1);
select pgque.ticker();
select pgque.set_queue_config('t', 'external_ticker', 'true');
select pgque.ticker('t');
select pgque.force_next_tick('t');
select pgque.ticker('t', 5, now(), 1);
select pgque.set_queue_config('t', 'ticker_paused', 'false');
select pgque.ticker('t');
select pgque.force_tick('t');
select pgque.ticker();
select pgque.ticker('t', 1, now(), 10000);
select pgque.ticker('t', 2, now(), 10000);
select pgque.ticker('t', 10, now(), 1);
select pgque.ticker('t', null, now(), 10000);
select pgque.ticker('t', 10, null, 10000);
select pgque.ticker('t', 10, now(), null);
select pgque.ticker('t', 10, '2020-01-01', 10000);
select pgque.ticker('t', 10, now(), 10000);
select tick_id, tick_event_seq, tick_time < '2021-01-01' from pgque.tick where tick_queue = (select queue_id from pgque.queue where queue_name = 't') order by 1;
select pgque.send('t', 'external') > 0;
select pgque.set_queue_config('t', 'external_ticker', null);
select pgque.force_next_tick('t');
select pgque.ticker('t') > 0;
-- When a tick is due.
select pgque.create_queue('due1'), pgque.create_queue('due2'), pgque.create_queue('due3');
select pgque.send('due1', 'x');
select pgque.ticker('due1');
select pgque.ticker('due1');
select pgque.send('due2', 'x'), pgque.send('due2', 'y');
select pgque.ticker('due2');
update pgque.tick set tick_time = now() - interval '2.9 seconds' where tick_queue = (select queue_id from pgque.queue where queue_name = 'due2');
select pgque.ticker('due2');
update pgque.tick set tick_time = now() - interval '3 seconds' where tick_queue = (select queue_id from pgque.queue where queue_name = 'due2');
select pgque.ticker('due2');
select pgque.set_queue_config('due2', 'ticker_max_count', '2');
select pgque.send('due2', 'x');
select pgque.ticker('due2');
select pgque.send('due2', 'x');
select pgque.ticker('due2');
-- Idle: at least half of max_lag, and twice the previous gap or the idle period.
create procedure chk.ages(last interval, previous interval) language sql as $$
  update pgque.tick set tick_time = now() - case when tick_id = (select max(tick_id) from pgque.tick t where t.tick_queue = tick.tick_queue)
    then last else previous end
  where tick_queue = (select queue_id from pgque.queue where queue_name = 'due3') $$;
select pgque.ticker('due3');
select pgque.ticker('due3');
call chk.ages('1.4 s', '1.5 s');
select pgque.ticker('due3');
call chk.ages('1.6 s', '2.5 s');
select pgque.ticker('due3');
call chk.ages('1.6 s', '2.2 s');
select pgque.ticker('due3');
call chk.ages('59 s', '200 s');
select pgque.ticker('due3');
call chk.ages('61 s', '200 s');
select pgque.ticker('due3');
select pgque.ticker() >= 0;
-- What keeps a scheduler from its work.
select pgque.create_queue('bad'), pgque.subscribe('bad', 'c');
select queue_id as bad from pgque.queue where queue_name = 'bad' \gset
update pgque.tick set tick_snapshot = '9000000000:9000000001:' where tick_queue = :bad;
select pgque.ticker('bad');
select pgque.ticker();
update pgque.tick set tick_snapshot = pg_current_snapshot() where tick_queue = :bad;
update pgque.queue set queue_disable_insert = true where queue_id = :bad;
insert into pgque.retry_queue (ev_retry_after, ev_queue, ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data)
select now(), sub_queue, 1, now(), sub_id, 1, 't', 'd' from pgque.subscription where sub_queue = :bad;
select pgque.maint_retry_events();
update pgque.queue set queue_disable_insert = false where queue_id = :bad;
select pgque.maint_retry_events();
create function chk.fails(text) returns integer language plpgsql as $$ begin raise exception 'extra for %', $1; end $$;
update pgque.queue set queue_extra_maint = array['chk.fails'] where queue_id = :bad;
select pgque.maint();
update pgque.queue set queue_extra_maint = null, queue_switch_time = now() - interval '1 day' where queue_id = :bad;
update pgque.subscription set sub_last_tick = 4711 where sub_queue = :bad;
select pgque.maint_rotate_tables_step1('bad');
select pgque.maint();
update pgque.subscription set sub_last_tick = 1 where sub_queue = :bad;
select queue_cur_table, queue_switch_step2 is null from pgque.queue where queue_id = :bad;
select pgque.maint_rotate_tables_step2();
select pgque.drop_queue('bad', true);
select pgque.set_tick_period_ms(300);
select pgque.set_tick_period_ms(0);
select pgque.set_tick_period_ms(2000);
select pgque.set_tick_period_ms(-1);
select pgque.set_tick_period_ms(null);
select pgque.set_tick_period_ms(50);
select tick_period_ms from pgque.config;
begin;
call pgque.ticker_loop();
rollback;
call pgque.ticker_loop();
select pgque.maint();
select pgque.maint_rotate_tables_step1('due1');
select pgque.maint_rotate_tables_step1('nope');
select pgque.maint_rotate_tables_step1(null);
select pgque.maint_rotate_tables_step2();
select component, status from pgque.status();

--- Notifications
listen "pgque_note";
listen "pgque_t";
select pgque.create_queue('note');
select pgque.create_queue('note');
select pgque.subscribe('note', 'c'), pgque.send('note', 'x');
select pgque.force_next_tick('note');
select pgque.ticker('note');
select pgque.ticker('note');
begin;
select pgque.force_next_tick('note'), pgque.ticker('note'), pgque.force_next_tick('note'), pgque.ticker('note');
rollback;
begin;
select pgque.force_next_tick('note'), pgque.ticker('note') > 0;
select pgque.force_next_tick('note'), pgque.ticker('note') > 0;
commit;
select pgque.ack(batch_id) from pgque.receive('note', 'c');
select pgque.unsubscribe('note', 'c');
select pgque.set_queue_config('t', 'external_ticker', 'true');
select pgque.ticker('t', 1000, now(), 1000000);
select pgque.drop_queue('note');
unlisten *;

--- Information
select pgque.create_queue('i');
select pgque.subscribe('i', 'ic');
select queue_name, queue_ntables, queue_cur_table, queue_rotation_period, queue_external_ticker, queue_ticker_paused,
       queue_ticker_max_count, queue_ticker_max_lag, queue_ticker_idle_period, ev_per_sec, ev_new, last_tick_id, ticker_lag >= '0'
from pgque.get_queue_info('i');
select pgque.send('i', 'x'), pgque.send('i', 'y');
select ev_new, last_tick_id from pgque.get_queue_info('i');
select * from pgque.get_queue_info('nope');
select count(*) from pgque.get_queue_info(null);
select queue_name from pgque.get_queue_info() where queue_name in ('i', 'q', 't');
select queue_name, consumer_name, last_tick, current_batch, next_tick, pending_events from pgque.get_consumer_info('i');
select chk.tick('i');
select queue_name, consumer_name, last_tick, current_batch, next_tick, pending_events from pgque.get_consumer_info();
select * from pgque.get_consumer_info('nope');
select * from pgque.get_consumer_info('i', 'nope');
select count(*) from pgque.get_consumer_info(null);
select queue_name, consumer_name from pgque.get_consumer_info(null, 'ic');
select * from pgque.get_queue_info('i') limit 0;
select * from pgque.get_consumer_info('i') limit 0;

--- Read only
begin read only;
savepoint s;
select pgque.send('q', 'x'); rollback to s;
select pgque.send('nope', 'x'); rollback to s;
select pgque.send_batch('q', '{x}'::text[]); rollback to s;
select pgque.insert_event('q', 't', 'x'); rollback to s;
select pgque.receive('q', 'c'); rollback to s;
select pgque.receive('q', 'nope'); rollback to s;
select pgque.receive_coop('q', 'g', 'w'); rollback to s;
select pgque.next_batch('q', 'c'); rollback to s;
select pgque.ack(1); rollback to s;
select pgque.nack(1, chk.msg(1)); rollback to s;
select pgque.subscribe('q', 'c'); rollback to s;
select pgque.subscribe('q', 'new'); rollback to s;
select pgque.unsubscribe('q', 'c'); rollback to s;
select pgque.unsubscribe('nope', 'c'); rollback to s;
select pgque.force_next_tick('q'); rollback to s;
select pgque.touch_subconsumer('q', 'g', 'w'); rollback to s;
select pgque.register_subconsumer('q', 'g', 'w'); rollback to s;
select pgque.unregister_subconsumer('q', 'g', 'w'); rollback to s;
select pgque.set_tick_period_ms(100); rollback to s;
select pgque.maint_rotate_tables_step2(); rollback to s;
select pgque.maint_retry_events(); rollback to s;
select pgque.dlq_purge('q'); rollback to s;
select pgque.dlq_replay(1); rollback to s;
select pgque.dlq_replay_all('q'); rollback to s;
select pgque.create_queue('q'); rollback to s;
select pgque.create_queue('new'); rollback to s;
select pgque.drop_queue('q', true); rollback to s;
select pgque.set_queue_config('q', 'max_retries', '1'); rollback to s;
select pgque.maint(); rollback to s;
select count(*) from pgque.get_queue_info('q'); rollback to s;
select count(*) from pgque.get_consumer_info('q'); rollback to s;
select count(*) from pgque.status(); rollback to s;
select count(*) from pgque.dlq_inspect('q'); rollback to s;
select pgque.version() is null; rollback to s;
rollback;
update pgque.tick set tick_time = now() - interval '1 day';
begin read only;
select pgque.ticker('q');
rollback;

--- Rights
set role chk_none;
select pgque.version();
select pgque.send('q', 'x');
select count(*) > 0 from pgque.queue;
select count(*) from pgque.dead_letter;
select tick_period_ms from pgque.config;
reset role;
set role chk_writer;
select pgque.send('q', 'x') > 0, pgque.send('q', 't', '{}'::jsonb) > 0, pgque.insert_event('q', 't', 'd') > 0;
select array_length(pgque.send_batch('q', '{x,y}'::text[]), 1);
select pgque.receive('q', 'c');
select pgque.version();
select * from pgque.dlq_inspect('q');
select pgque.dlq_replay(999);
select * from pgque.dlq_replay_all('q');
select * from pgque.get_queue_info('q');
reset role;
set role chk_reader;
select pgque.subscribe('q', 'r');
select pgque.next_batch('q', 'r');
select pgque.receive('q', 'r');
select pgque.ack(999999);
select pgque.send('q', 'x');
select pgque.ticker('q');
select pgque.ticker();
select pgque.force_next_tick('q');
select pgque.create_queue('q');
select pgque.drop_queue('nope');
select pgque.maint_retry_events();
select pgque.maint();
select pgque.status();
select pgque.dlq_purge('q');
select pgque.dlq_replay(1);
select count(*) from pgque.dlq_inspect('q');
select count(*) from pgque.get_consumer_info('q');
select count(*) from pgque.get_queue_info('q');
select * from pgque.get_batch_info(999999);
select count(*) from pgque.dead_letter;
select tick_period_ms from pgque.config;
select pgque.version() is null;
call pgque.ticker_loop();
select pgque.subscribe_subconsumer('q', 'rg', 'w'), pgque.touch_subconsumer('q', 'rg', 'w'), pgque.unsubscribe_subconsumer('q', 'rg', 'w');
select pgque.receive_coop('q', 'rg', 'w', 1, '0');
select pgque.nack(999999, chk.msg(1));
select pgque.unsubscribe('q', 'r');
reset role;
set role chk_admin;
select pgque.create_queue('adm'), pgque.send('adm', 'x'), pgque.subscribe('adm', 'c'), pgque.force_next_tick('adm'), pgque.ticker('adm') > 0;
select payload from pgque.receive('adm', 'c');
select pgque.maint_retry_events(), pgque.maint(), pgque.maint_rotate_tables_step2();
select count(*) from pgque.get_queue_info('adm');
call pgque.ticker_loop();
select pgque.set_queue_config('adm', 'max_retries', '3'), pgque.dlq_purge('adm'), pgque.set_tick_period_ms(100);
select pgque.drop_queue('adm', true);
reset role;

--- Two sessions
set lock_timeout = '300ms';
\set ECHO none
select chk.dblink_connect('a', :'dsn'), chk.dblink_connect('b', :'dsn');
\set ECHO queries
select pgque.create_queue('two');
select pgque.subscribe('two', 'c'), pgque.subscribe('two', 'idle');
call chk.fill('two', 2);
select chk.dblink_exec('a', 'begin');
select * from chk.dblink('a', 'select batch_id, payload from pgque.receive(''two'', ''c'')') as t (batch bigint, payload text);
select pgque.receive('two', 'c');
select pgque.next_batch('two', 'c');
select pgque.unsubscribe('two', 'c');
select pgque.subscribe('two', 'c');
select pgque.drop_queue('two', true);
select payload from pgque.receive('two', 'idle', 1);
select pgque.send('two', 'x') > 0, pgque.force_next_tick('two') > 0, pgque.ticker('two') > 0, pgque.maint_retry_events(), pgque.maint();
select chk.dblink_exec('a', 'commit');
select payload from pgque.receive('two', 'c');
select chk.dblink_exec('a', 'begin');
select * from chk.dblink('a', 'select pgque.send(''two'', ''open'') > 0') as t (ok boolean);
select pgque.drop_queue('two', true);
select pgque.send('two', 'not blocked') > 0;
select chk.dblink_exec('a', 'commit');
-- Committed after the tick: in the next batch.
select pgque.ack(batch_id) from pgque.receive('two', 'c', 1);
select pgque.ack(batch_id) from pgque.receive('two', 'c', 1);
select pgque.ack(batch_id) from pgque.receive('two', 'c', 1);
select chk.dblink_exec('a', 'begin');
select * from chk.dblink('a', 'select pgque.send(''two'', ''slow'') > 0') as t (ok boolean);
select pgque.send('two', 'fast') > 0;
select chk.tick('two');
select chk.dblink_exec('a', 'commit');
select chk.tick('two');
select pgque.ack(batch_id) from (select batch_id, row_number() over () n, payload from pgque.receive('two', 'c')) r where n = 1;
select payload from pgque.receive('two', 'c');
-- Creation races: the loser's error.
select chk.dblink_exec('a', 'begin');
select * from chk.dblink('a', 'select pgque.create_queue(''race'')') as t (n integer);
select chk.dblink_send_query('b', 'select pgque.create_queue(''race'')');
select pg_sleep(0.2);
select chk.dblink_exec('a', 'commit');
select * from chk.dblink_get_result('b') as t (n integer);
select * from chk.dblink_get_result('b') as t (n integer);
select chk.dblink_exec('a', 'begin');
select * from chk.dblink('a', 'select pgque.subscribe(''race'', ''brand new'')') as t (n integer);
select chk.dblink_send_query('b', 'select pgque.subscribe(''race'', ''brand new'')');
select pg_sleep(0.2);
select chk.dblink_exec('a', 'commit');
select * from chk.dblink_get_result('b') as t (n integer);
select * from chk.dblink_get_result('b') as t (n integer);
select chk.dblink_exec('a', 'begin');
select * from chk.dblink('a', 'select pgque.subscribe(''race'', ''c'')') as t (n integer);
select chk.dblink_send_query('b', 'select pgque.subscribe(''race'', ''c'')');
select pg_sleep(0.2);
select chk.dblink_exec('a', 'commit');
select * from chk.dblink_get_result('b') as t (n integer);
select * from chk.dblink_get_result('b') as t (n integer);
select chk.dblink_exec('a', 'begin');
select * from chk.dblink('a', 'select count(*) from pgque.receive_coop(''race'', ''fresh'', ''w1'')') as t (n bigint);
select chk.dblink_send_query('b', 'select count(*) from pgque.receive_coop(''race'', ''fresh'', ''w2'')');
select pg_sleep(0.2);
select chk.dblink_exec('a', 'commit');
select * from chk.dblink_get_result('b') as t (n bigint);
select * from chk.dblink_get_result('b') as t (n bigint);
-- A group: handing out is serialised, finishing and touching are not.
select pgque.create_queue('grp');
select pgque.register_subconsumer('grp', 'g', 'w1'), pgque.register_subconsumer('grp', 'g', 'w2'), pgque.register_subconsumer('grp', 'g', 'w3');
call chk.fill('grp', 3);
select chk.dblink_exec('a', 'begin');
select * from chk.dblink('a', 'select batch_id > 0, payload from pgque.receive_coop(''grp'', ''g'', ''w1'')') as t (batch boolean, payload text);
select payload from pgque.receive_coop('grp', 'g', 'w2');
select pgque.touch_subconsumer('grp', 'g', 'w2');
select pgque.register_subconsumer('grp', 'g', 'w2');
select pgque.unregister_subconsumer('grp', 'g', 'w3');
select chk.dblink_exec('a', 'commit');
select payload from pgque.receive_coop('grp', 'g', 'w2');
select chk.dblink_exec('a', 'begin');
select * from chk.dblink('a', 'select pgque.ack(batch_id) from pgque.receive_coop(''grp'', ''g'', ''w1'', 1)') as t (n integer);
select chk.dblink_exec('a', 'commit');
select chk.dblink_exec('a', 'begin');
select * from chk.dblink('a', 'select pgque.touch_subconsumer(''grp'', ''g'', ''w2'')') as t (n integer);
select payload from pgque.receive_coop('grp', 'g', 'w1');
select payload from pgque.receive_coop('grp', 'g', 'w3', 100, '0');
select chk.dblink_exec('a', 'commit');
select sub_batch as b from pgque.subscription join pgque.consumer on co_id = sub_consumer where co_name = 'g.w2' \gset
select chk.dblink_exec('a', 'begin');
select * from chk.dblink('a', 'select pgque.ack(' || :b || ')') as t (n integer);
select payload from pgque.receive_coop('grp', 'g', 'w3');
select chk.dblink_exec('a', 'rollback');
-- Two stealers, one victim: the second goes away empty-handed.
select pgque.ack(sub_batch) from pgque.subscription join pgque.queue on queue_id = sub_queue where queue_name = 'grp' and sub_batch is not null and sub_batch <> :b;
update pgque.subscription set sub_active = now() - interval '1 hour' where sub_batch = :b;
select chk.dblink_exec('a', 'begin');
select * from chk.dblink('a', 'select payload from pgque.receive_coop(''grp'', ''g'', ''w1'', 100, ''10 minutes'')') as t (payload text);
select chk.dblink_send_query('b', 'select payload from pgque.receive_coop(''grp'', ''g'', ''w3'', 100, ''10 minutes'')');
select pg_sleep(0.2);
select chk.dblink_exec('a', 'commit');
select count(*) from chk.dblink_get_result('b') as t (payload text);
select count(*) from chk.dblink_get_result('b') as t (payload text);
select pgque.ack(:b);
-- Repeatable read: a receive after somebody else's is refused.
select pgque.ack(sub_batch) from pgque.subscription join pgque.queue on queue_id = sub_queue where queue_name = 'two' and sub_batch is not null;
select chk.dblink_exec('a', 'begin isolation level repeatable read');
select * from chk.dblink('a', 'select 1') as t (n integer);
call chk.fill('two', 1);
select count(*) from pgque.receive('two', 'idle');
select * from chk.dblink('a', 'select payload from pgque.receive(''two'', ''idle'')') as t (payload text);
select chk.dblink_exec('a', 'rollback');
select chk.dblink_exec('a', 'begin isolation level repeatable read');
select * from chk.dblink('a', 'select payload is not null from pgque.receive(''two'', ''idle'', 1)') as t (ok boolean);
select chk.dblink_exec('a', 'commit');
-- Two movers of retries.
select chk.dblink_exec('a', 'begin');
select * from chk.dblink('a', 'select pgque.maint_retry_events()') as t (n integer);
select pgque.maint_retry_events();
select chk.dblink_exec('a', 'commit');
select chk.dblink_disconnect('a');
select chk.dblink_disconnect('b');
