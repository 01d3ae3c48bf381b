// Requests that leave behind whatever PHP lets them. Each is PHP code, or a function of a PHP.

const php = code => it => it.run({ code: `<?php ${code}` })
/** PHP says by its exit code that the script failed. */
const failing = code => async it => {
  try {
    await it.run({ code: `<?php ${code}` })
  } catch (error) {
    return error
  }
  throw new Error(`this did not fail: ${code.slice(0, 60)}`)
}

/** By name. None of them is in the way of a restore. */
export const LEAVINGS = {
  'globals, constants, functions and classes': php(`
    define('LEFT', 1);
    function left() { static $calls = 0; return ++$calls; }
    class Left { public static $all = []; const ONE = 1; }
    enum Suit { case Hearts; }
    Left::$all[] = left() + left();
    $GLOBALS['left'] = new Left;
    class_alias('Left', 'Right');`),
  settings: php(`
    ini_set('precision', '3'); ini_set('memory_limit', '512M'); ini_set('include_path', '/tmp');
    date_default_timezone_set('Asia/Tokyo'); setlocale(LC_ALL, 'C'); umask(0077);
    putenv('LEFT=1'); $_ENV['LEFT'] = 1; mb_internal_encoding('EUC-JP'); error_reporting(0);
    set_error_handler(fn() => true); spl_autoload_register(fn($name) => null); ob_start();
    libxml_use_internal_errors(true); mt_srand(5);`),
  'another folder, with files': php(`
    mkdir('/tmp/a/b', 0700, true); chdir('/tmp/a/b');
    file_put_contents('here', str_repeat('x', 100000));
    symlink('here', 'there'); rename('/home/web_user', '/home/nobody'); touch('/tmp/a', 5, 5);
    chmod('/internal/shared/php.ini', 0); unlink('/internal/shared/auto_prepend_file.php');
    file_put_contents('/internal/shared/preload/left.php', '<?php define("PRELOADED", 1);');`),
  '1,000 open files': php(`
    for ($i = 0; $i < 1000; $i++) { $GLOBALS["f$i"] = fopen("/tmp/left$i", 'w+'); fwrite($GLOBALS["f$i"], "$i"); }
    $GLOBALS['m'] = fopen('php://memory', 'w'); $GLOBALS['t'] = tmpfile();
    unlink('/tmp/left7'); echo fopen('/tmp/left9', 'r') ? 'open' : 'none';`),
  'wrappers and filters': php(`
    class W { public $context; function stream_open() { return true; } function stream_read() { return ''; } function stream_eof() { return true; } function stream_stat() { return []; } function stream_set_option() { return true; } }
    stream_wrapper_register('left', 'W'); stream_wrapper_unregister('http');
    class F extends php_user_filter {} stream_filter_register('left.filter', 'F');
    $GLOBALS['w'] = fopen('left://a', 'r');`),
  'a session': php(`
    session_id('left'); session_start(); $_SESSION['who'] = 'somebody';`),
  'a generator half-way': php(`
    function half() { try { $f = fopen('/tmp/half', 'w'); yield 1; yield 2; } finally { fwrite($f, 'end'); } }
    $GLOBALS['half'] = half(); $GLOBALS['half']->current();`),
  'memory that has grown': php(`
    ini_set('memory_limit', '-1'); $GLOBALS['big'] = str_repeat('x', 70 << 20); echo strlen($GLOBALS['big']);`),
  'an exit': failing('file_put_contents("/tmp/exit", "x"); $GLOBALS["x"] = 1; exit(7);'),
  'an exception': failing(
    'function deep($n) { if ($n === 0) throw new Exception("left"); deep($n - 1); } deep(50);'
  ),
  'a fatal error': failing('function twice() {} eval("function twice() {}");'),
  'memory that is exhausted': failing(
    'ini_set("memory_limit", "80M"); $a = []; while (true) $a[] = str_repeat("x", 1 << 20);'
  ),
  'a recursion without an end': failing(
    'ini_set("memory_limit", "64M"); function f($x) { return f($x + 1) + 1; } f(0);'
  ),
  'the end of the stack': failing(`$x = []; for ($i = 0; $i < 100000; $i++) $x = [$x]; $x = null;`),
  'the end of the stack, in a callback': failing(`
    $x = []; for ($i = 0; $i < 100000; $i++) $x = [$x]; array_walk_recursive($x, function () {});`),
  'calls that were suspended': php(`
    for ($i = 0; $i < 5; $i++) { usleep(10); post_message_to_js("$i"); }`),
  'a response that nobody reads': async it => {
    const response = await it.runStream({
      code: '<?php echo str_repeat("x", 3000000); fwrite(fopen("php://stderr", "w"), "e");'
    })
    await response.finished
  },
  'what JavaScript does': async it => {
    it.mkdir('/www')
    it.writeFile(
      '/www/index.php',
      '<?php file_put_contents("/www/data", "x", FILE_APPEND); echo __FILE__;'
    )
    it.defineConstant('FROM_JS', 1)
    it.chdir('/www')
    it.left = 1
    await it.run({ scriptPath: '/www/index.php', env: { LEFT: '1' }, $_SERVER: { LEFT: '1' } })
    const body = new Uint8Array(100_000).fill(120)
    await it.run({
      scriptPath: '/www/index.php',
      method: 'POST',
      body,
      headers: { 'content-type': 'text/plain', cookie: 'a=b' }
    })
  }
}
