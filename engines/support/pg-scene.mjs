// A database to begin with, and what tests do to one.

/** Tables, functions and a session that has something of everything. */
export const SCHEMA = `
  create type mood as enum ('sad', 'ok', 'happy');
  create table person (id serial primary key, name text not null unique, feels mood default 'ok');
  create table event (id bigserial primary key, person int references person on delete cascade,
    at timestamptz default '2026-01-01', data jsonb, tags text[]);
  create index on event using gin (data);
  create view happy as select * from person where feels = 'happy';
  create materialized view moods as select feels, count(*) from person group by feels;
  create function greet(name text) returns text language plpgsql as
    $$ begin return 'Hello, ' || name; end $$;
  create function note() returns trigger language plpgsql as
    $$ begin insert into event (person, data) values (new.id, to_jsonb(new)); return new; end $$;
  create trigger noted after insert or update on person for each row execute function note();
  insert into person (name, feels) select 'p' || i, (array['sad','ok','happy'])[1 + i % 3]::mood
    from generate_series(1, 200) i;
  insert into event (person, data, tags) select 1 + i % 200, jsonb_build_object('i', i), array['a','b']
    from generate_series(1, 2000) i;
  refresh materialized view moods;
  select lo_from_bytea(4242, decode(repeat('00ff', 5000), 'hex'));
  comment on table person is 'who';
  create sequence ticket increment 7;
  select nextval('ticket');
`

/** A session: what no other connection sees. */
export const SESSION = `
  create temp table draft (a int, b text);
  insert into draft select i, md5(i::text) from generate_series(1, 50) i;
  prepare by_name as select * from person where name = $1;
  declare held cursor with hold for select * from person order by id;
  fetch 3 from held;
  set work_mem = '7MB';
  set search_path = public, pg_catalog;
  select set_config('app.user', 'ann', false);
  select pg_advisory_lock(77);
  listen news;
`

const fails = async (pg, sql) => {
  try {
    await pg.exec(sql)
  } catch (error) {
    if (error.code !== undefined) return
    throw error
  }
  throw new Error(`this should have failed: ${sql}`)
}

/** What a test may do: name and function. Each is a round. */
export const DAMAGES = {
  'drop table': pg => pg.exec('drop table person cascade'),
  'drop schema': pg => pg.exec('drop schema public cascade; create schema public'),
  'drop type': pg => pg.exec('drop type mood cascade'),
  truncate: pg => pg.exec('truncate person, event restart identity'),
  vacuum: async pg => {
    await pg.exec('delete from event where id % 2 = 0')
    await pg.exec('vacuum')
  },
  'vacuum full': pg => pg.exec('vacuum full'),
  'vacuum freeze analyze': pg => pg.exec('vacuum (freeze, analyze)'),
  reindex: pg => pg.exec('reindex database postgres'),
  cluster: pg => pg.exec('cluster person using person_pkey'),
  checkpoint: pg => pg.exec(`update person set feels = 'sad'; checkpoint`),
  'switch wal': pg => pg.exec('insert into person (name) values (1); select pg_switch_wal()'),
  'syntax error': pg => fails(pg, 'selec 1'),
  'unique violation': pg => fails(pg, `insert into person (name) values ('p1')`),
  'error in a function': pg =>
    fails(pg, `do $$ begin raise exception 'no' using errcode = 'P0001'; end $$`),
  'division by zero, prepared': async pg => {
    await pg.query('select 1 / $1::int', [0]).catch(() => {})
  },
  'transaction left open': pg => pg.exec('begin; delete from event; savepoint a; drop table event'),
  'transaction failed and left open': pg => fails(pg, 'begin; delete from event; select 1/0'),
  'transaction rolled back': pg =>
    pg
      .transaction(async tx => {
        await tx.exec('drop table event')
        throw new Error('back')
      })
      .catch(() => {}),
  'transaction committed': pg => pg.transaction(tx => tx.exec('drop view happy')),
  'two-phase': pg => fails(pg, `begin; delete from event; prepare transaction 'later'`),
  'temp tables': pg => pg.exec('drop table draft; create temp table draft as select 1 as other'),
  'prepared statements': pg => pg.exec('deallocate all; prepare other as select 2'),
  cursors: pg => pg.exec('fetch 20 from held; close held; begin; declare c cursor for select 1'),
  'sequences and settings': pg =>
    pg.exec(`select nextval('ticket'), setval('person_id_seq', 5000); reset all;
      set timezone = 'Asia/Tokyo'; select set_config('app.user', 'bob', false)`),
  'alter system': async pg => {
    await pg.exec(`alter system set work_mem = '9MB'`)
    await pg.exec('select pg_reload_conf()')
  },
  'discard all': pg => pg.exec('discard all'),
  'large objects': pg =>
    pg.exec(`select lo_unlink(4242); select lo_from_bytea(1, repeat('x', 300000)::bytea)`),
  'listen and notify': pg => pg.exec('unlisten *; listen other; notify other'),
  'advisory locks': pg => pg.exec('select pg_advisory_unlock_all(), pg_advisory_lock(1)'),
  roles: pg =>
    pg.exec(`create role eve login; grant all on person to eve; set role eve; reset role;
      alter role eve set work_mem = '1MB'`),
  'new database': pg => pg.exec('create database other template template0'),
  tablespace: pg => fails(pg, `create tablespace t location '/nowhere'`),
  'functions and triggers': pg =>
    pg.exec(`create or replace function greet(name text) returns text language plpgsql as
        $$ declare n int; begin select count(*) into n from person; return n || name; end $$;
      select greet('x'); alter table person disable trigger noted; do $$ begin perform 1; end $$`),
  'text search and conversion': pg =>
    pg.exec(`select to_tsvector('english', 'the dogs were running'),
      convert('abc'::bytea, 'UTF8', 'LATIN1'); create text search configuration mine (copy = english)`),
  'alter table': pg =>
    pg.exec(`alter table person add column age int default 3, drop column feels cascade;
      alter table event alter column person type bigint`),
  'many tables': pg =>
    pg.exec(`do $$ begin for i in 1..150 loop execute 'create table t' || i || '(a int primary key)';
      execute 'insert into t' || i || ' select generate_series(1, 20)'; end loop; end $$`),
  'copy to a blob': pg => pg.query(`copy person to '/dev/blob'`),
  'copy to a file of the engine': pg => pg.exec(`copy person to '/tmp/persons'`),
  'a timer that has not ended': pg => pg.exec('set statement_timeout = 20; select 1'),
  'a sort on disk': pg =>
    pg.exec(`set work_mem = '64kB'; create table sorted as
      select md5(i::text) as m from generate_series(1, 20000) i order by 1`),
  'unlogged table': pg => pg.exec('create unlogged table u as select generate_series(1, 1000)')
}
