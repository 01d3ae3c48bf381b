// What pg_dump would write about a PGlite instance, and what a session has besides: as text, so
// that two of them can be compared and a difference be read.

const own = `nspname not like 'pg\\_toast%' and nspname <> 'information_schema'`

/** Queries whose rows say what there is. `%` stands for everything of all schemas. */
const PARTS = {
  schemas: `select nspname, nspacl::text from pg_namespace where nspname !~ 'pg_toast' order by 1`,
  relations: `
    select n.nspname, c.relname, c.relkind, c.relpersistence, c.reloptions::text, c.relacl::text
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where ${own} order by 1, 2`,
  columns: `
    select c.oid::regclass::text as relation, a.attnum, a.attname,
      format_type(a.atttypid, a.atttypmod) as type, a.attnotnull, a.attisdropped,
      pg_get_expr(d.adbin, d.adrelid) as fallback
    from pg_attribute a join pg_class c on c.oid = a.attrelid
      join pg_namespace n on n.oid = c.relnamespace
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where ${own} and nspname <> 'pg_catalog' order by 1, 2`,
  indexes: `
    select schemaname, tablename, indexname, indexdef from pg_indexes
    where schemaname <> 'pg_catalog' order by 1, 2, 3`,
  constraints: `
    select conrelid::regclass::text as relation, conname, pg_get_constraintdef(oid) as definition
    from pg_constraint where connamespace <> 'pg_catalog'::regnamespace order by 1, 2`,
  views: `select schemaname, viewname, definition from pg_views where schemaname !~ '^pg_|^info'`,
  triggers: `
    select tgrelid::regclass::text as relation, tgname, pg_get_triggerdef(oid) as definition
    from pg_trigger where not tgisinternal order by 1, 2`,
  functions: `
    select oid::regprocedure::text as name, md5(prosrc) as source from pg_proc
    where pronamespace <> 'pg_catalog'::regnamespace order by 1`,
  types: `
    select n.nspname, t.typname, t.typtype,
      (select string_agg(enumlabel, ',' order by enumsortorder) from pg_enum
       where enumtypid = t.oid) as labels
    from pg_type t join pg_namespace n on n.oid = t.typnamespace
    where ${own} and nspname <> 'pg_catalog' order by 1, 2`,
  sequences: `select * from pg_sequences order by schemaname, sequencename`,
  extensions: `select extname, extversion from pg_extension order by 1`,
  roles: `select rolname, rolsuper, rolconfig::text from pg_roles order by 1`,
  databases: `select datname, datacl::text from pg_database order by 1`,
  comments: `select objoid::text, objsubid, description from pg_description where objoid >= 16384`,
  objects: `
    select m.oid::text, md5(lo_get(m.oid)) as bytes from pg_largeobject_metadata m order by 1`,
  settings: `
    select name, setting, source from pg_settings
    where name !~ '^(transaction_|in_hot_standby)' order by 1`,
  prepared: `select name, statement from pg_prepared_statements where name <> '' order by 1`,
  cursors: `select name, statement, is_holdable from pg_cursors where name <> '' order by 1`,
  channels: `select pg_listening_channels() order by 1`,
  locks: `select locktype, objid::text from pg_locks where locktype = 'advisory' order by 1, 2`
}

/** All rows of all tables, temporary ones included: in the order of the table. */
const TABLES = `
  select c.oid::regclass::text as name from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'm') and ${own} and nspname <> 'pg_catalog' order by 1`

const plain = (_, value) => (typeof value === 'bigint' ? String(value) : value)

/** The dump of an instance, as lines. */
export async function dump(pg) {
  const lines = [`in a transaction: ${pg.isInTransaction()}`]
  for (const [part, query] of Object.entries(PARTS)) {
    const { rows } = await pg.query(query)
    lines.push(`${part}:`, ...rows.map(row => JSON.stringify(row, plain)))
  }
  const { rows: tables } = await pg.query(TABLES)
  for (const { name } of tables) {
    const { rows } = await pg.query(`select t::text as line from ${name} t`)
    lines.push(`${name}:`, ...rows.map(({ line }) => line))
  }
  return lines.join('\n')
}

/** Digests of the catalogs, with numbers and places of storage: equal only in one and the same. */
async function catalogs(pg) {
  const { rows: tables } = await pg.query(`
    select c.relname as name from pg_class c
    where c.relkind = 'r' and c.relnamespace = 'pg_catalog'::regnamespace
      and c.relname <> 'pg_largeobject' order by 1`)
  const lines = []
  for (const { name } of tables) {
    const { rows } = await pg.query(
      `select count(*)::text as count, md5(string_agg(ctid::text || t::text, '|' order by ctid)) as rows
       from pg_catalog.${name} t`
    )
    lines.push(`${name} ${rows[0].count} ${rows[0].rows}`)
  }
  const { rows } = await pg.query('select pg_current_xact_id_if_assigned()::text as id')
  return [...lines, `transaction ${rows[0].id}`].join('\n')
}

export const everything = async pg => `${await dump(pg)}\n${await catalogs(pg)}`

/** The first line that differs, or undefined: of texts that are too long to print. */
export function difference(one, other) {
  if (one === other) return undefined
  const [lines, others] = [one.split('\n'), other.split('\n')]
  const at = lines.findIndex((line, i) => line !== others[i])
  return { at, was: lines[at], is: others[at] }
}
