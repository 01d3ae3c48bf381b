// Random requests of PHP: code that leaves behind what PHP lets it, put together of pieces by a
// seed.

/** A generator of numbers from 0 to 1 (mulberry32), the same for a seed each time. */
export function randomOf(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/**
 * Pieces of code: each takes a number that is new in each request, and a function that gives a
 * whole number below another.
 */
const PIECES = [
  n => `$GLOBALS['left${n}'] = range(1, ${n});`,
  n => `define('LEFT_${n}', ${n});`,
  n => `eval('function left${n}() { static $n = 0; return ++$n; } left${n}();');`,
  n =>
    `eval('class Left${n} { public static $all = []; public $me; function __destruct() { $GLOBALS["gone"] = 1; } } Left${n}::$all[] = new Left${n};');`,
  n =>
    `$f = fopen('/tmp/file${n}', 'w+'); fwrite($f, str_repeat('${n}', ${n})); $GLOBALS['open${n}'] = $f;`,
  (n, below) =>
    `for ($i = 0; $i < ${below(300)}; $i++) $GLOBALS['many'][] = fopen("/tmp/many$i", 'a+');`,
  n =>
    `mkdir('/tmp/folder${n}/in', 0755, true); chdir('/tmp/folder${n}'); file_put_contents('here', 'x');`,
  n => `@unlink('/tmp/file${n}'); @rename('/internal/shared/bin/php', '/tmp/php${n}');`,
  n => `file_put_contents('/internal/shared/php.ini', "precision=${n % 17}\\n", FILE_APPEND);`,
  n => `file_put_contents('/internal/shared/preload/p${n}.php', '<?php define("PRE${n}", 1);');`,
  n => `@symlink('/tmp', '/home/link${n}'); touch('/tmp', ${n}, ${n}); chmod('/home', 0700);`,
  n =>
    `ini_set('precision', '${n % 17}'); putenv('LEFT=${n}'); umask(0${n % 7}7); error_reporting(${n});`,
  () =>
    `date_default_timezone_set('Asia/Tokyo'); mb_internal_encoding('UTF-16'); setlocale(LC_ALL, 'C');`,
  n =>
    `set_error_handler(fn() => true); spl_autoload_register(fn($it) => null); ob_start(fn($it) => $it . '${n}');`,
  n =>
    `$g = (function () { $f = fopen('/tmp/half${n}', 'w'); try { yield 1; yield 2; } finally { fwrite($f, 'x'); } })(); $g->current(); $GLOBALS['g'] = $g;`,
  (n, below) =>
    `ini_set('memory_limit', '256M'); $GLOBALS['big'] = str_repeat('x', ${below(12)} << 20);`,
  n =>
    `$a = []; for ($i = 0; $i < ${n % 5000}; $i++) { $a[] = new stdClass; $a[$i]->next = $a[$i - 1] ?? null; } $GLOBALS['a'] = $a;`,
  () => `$o = new stdClass; $o->me = $o; $GLOBALS['ring'] = $o; gc_disable();`,
  n => `@session_id('s${n}'); @session_start(); $_SESSION['n'] = ${n};`,
  n =>
    `$GLOBALS['m'] = fopen('php://memory', 'w+'); fwrite($GLOBALS['m'], str_repeat('y', ${n})); $GLOBALS['t'] = tmpfile();`,
  n =>
    `$d = new DOMDocument; $d->loadXML('<a>${n}<b/></a>'); $GLOBALS['dom'] = $d->documentElement->firstChild; $d->save('/tmp/dom');`,
  n =>
    `$GLOBALS['db'] = new SQLite3('/tmp/db${n}'); $GLOBALS['db']->exec('create table t(a); insert into t values (${n}); begin; insert into t values (1)');`,
  n =>
    `echo preg_replace_callback('/(\\w)(\\d+)/', fn($m) => $m[2] . $m[1], 'a${n} b2 c3'), json_encode(['n' => ${n}]);`,
  n => `$z = gzopen('/tmp/z${n}', 'w'); gzwrite($z, str_repeat('z', ${n})); $GLOBALS['z'] = $z;`,
  n => `usleep(${n % 200}); post_message_to_js('${n}');`,
  n => `register_shutdown_function(function () { file_put_contents('/tmp/last${n}', 'x'); });`,
  n =>
    `fwrite(fopen('php://stderr', 'w'), 'e${n}'); error_log('${n}'); trigger_error('w${n}', E_USER_WARNING);`,
  () => `opendir('/internal'); $GLOBALS['dir'] = opendir('/tmp');`,
  n =>
    `header('X-Left: ${n}', true, 2${(n % 7) + 10}); setcookie('left', '${n}'); http_response_code(404);`,
  n =>
    `stream_wrapper_unregister('glob'); stream_context_set_default(['http' => ['timeout' => ${n}]]);`
]

/** How a request may end, the usual way most often. */
const ENDS = [
  ...Array.from({ length: 12 }, () => () => ''),
  n => `exit(${n % 256});`,
  n => `throw new RuntimeException('left ${n}');`,
  () => `nothing_of_that_name();`,
  n => `register_shutdown_function(fn() => throw new Error('${n}'));`,
  () => `ini_set('memory_limit', '40M'); $x = []; while (true) $x[] = str_repeat('x', 1 << 20);`,
  () => `ini_set('memory_limit', '48M'); function deep($n) { return deep($n + 1) + 1; } deep(0);`,
  () => `$x = []; for ($i = 0; $i < 60000; $i++) $x = [$x]; $x = null;`
]

/** The code of the next request. */
export function randomScript(random) {
  const below = most => Math.floor(random() * most)
  const code = []
  for (let left = 1 + below(8); left > 0; left--) {
    code.push(PIECES[below(PIECES.length)](1 + below(2000), below))
  }
  code.push(ENDS[below(ENDS.length)](below(2000)))
  return `<?php ${code.join('\n')}`
}
