export const queries = [
  {
    name: 'one message, by its id',
    sql: `SELECT name, sent_at, subject, body FROM message JOIN author ON author.id = author_id WHERE message.id = $id`,
    bind: { $id: 4711 }
  },
  {
    name: 'messages of an author, by index',
    sql: `SELECT id, sent_at FROM message WHERE author_id = $author ORDER BY sent_at DESC LIMIT 20`,
    bind: { $author: 1234 }
  },
  {
    name: 'messages by country, whole index',
    sql: `SELECT country, count(*), max(sent_at) FROM message JOIN author ON author.id = author_id
          GROUP BY country ORDER BY country`
  },
  {
    name: 'search in all texts, whole table',
    sql: `SELECT count(*), sum(length(body)) FROM message WHERE body LIKE $pattern`,
    bind: { $pattern: '%golian%' }
  }
]
