// PHP code that the tests, the examples and the bench run: a usual request, and what PHP shows of
// itself.

/** A page: it declares a class, fills a template, keeps a session, and leaves a file behind. */
export const pageOf = n => `<?php
session_start();
chdir('/tmp');
ini_set('precision', '5');
define('SHOP', 'shop ${n}');
class Basket {
  private static array $all = [];
  public function __construct(private array $items) { self::$all[] = $this; }
  public function total(): float { return array_sum(array_map(fn($it) => $it['price'] * $it['count'], $this->items)); }
  public static function count(): int { return count(self::$all); }
}
function rows(array $items): string {
  return implode('', array_map(fn($it) => "<tr><td>" . htmlspecialchars($it['name']) . "</td><td>{$it['count']}</td></tr>", $items));
}
$items = [];
foreach (range(1, 20) as $i) $items[] = ['name' => "<Item $i>", 'price' => $i * 1.25, 'count' => ($i + ${n}) % 7];
$basket = new Basket($items);
$_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;
file_put_contents('/tmp/orders.txt', "order ${n}\\n", FILE_APPEND);
echo json_encode([
  'title' => SHOP,
  'total' => $basket->total(),
  'baskets' => Basket::count(),
  'visits' => $_SESSION['visits'],
  'orders' => count(file('/tmp/orders.txt')),
  'page' => md5(rows($items))
]);
`

/** What a page answers that begins with a PHP as it was, apart from its hash. */
export function answerOf(n) {
  let total = 0
  for (let i = 1; i <= 20; i++) total += i * 1.25 * ((i + n) % 7)
  return { title: `shop ${n}`, total, baskets: 1, visits: 1, orders: 1 }
}

/** What PHP shows of itself, as JSON. Of the time and of random numbers it takes nothing. */
export const DIGEST = `<?php
error_reporting(E_ALL);
$hidden = ['REQUEST_TIME', 'REQUEST_TIME_FLOAT', 'HTTP_COOKIE'];
$files = [];
$visit = function (string $folder) use (&$visit, &$files) {
  foreach (scandir($folder) as $name) {
    $path = rtrim($folder, '/') . "/$name";
    if ($name === '.' || $name === '..' || $path === '/proc' || $path === '/dev') continue;
    $stat = lstat($path);
    $seen = [$stat['mode'], $stat['nlink'], $stat['uid']];
    if (is_link($path)) $seen[] = readlink($path);
    elseif (is_dir($path)) $visit($path);
    elseif (is_file($path)) $seen[] = md5_file($path);
    $files[$path] = $seen;
  }
};
$visit('/');
ksort($files);
$before = get_defined_vars();
unset($before['hidden'], $before['files'], $before['visit'], $before['stat']);
$classes = [...get_declared_classes(), ...get_declared_interfaces(), ...get_declared_traits()];
$statics = [];
foreach ($classes as $class) {
  $it = new ReflectionClass($class);
  foreach ($it->getProperties(ReflectionProperty::IS_STATIC) as $property) {
    $statics["$class::" . $property->getName()] = $property->isInitialized() ? serialize($property->getValue()) : null;
  }
}
$server = array_diff_key($_SERVER, array_flip($hidden));
echo json_encode([
  'files' => $files,
  'variables' => array_map(fn($it) => is_array($it) ? array_keys($it) : gettype($it), $before),
  'server' => $server,
  'env' => getenv(),
  'constants' => get_defined_constants(),
  'functions' => get_defined_functions(),
  'classes' => $classes,
  'statics' => $statics,
  'ini' => ini_get_all(null, false),
  'cwd' => getcwd(),
  'umask' => umask(),
  'session' => [session_status(), session_id(), session_name()],
  'included' => get_included_files(),
  'resources' => array_map(fn($it) => get_resource_type($it), get_resources()),
  'wrappers' => stream_get_wrappers(),
  'filters' => stream_get_filters(),
  'autoload' => spl_autoload_functions(),
  'buffers' => ob_get_level(),
  'zone' => date_default_timezone_get(),
  'locale' => setlocale(LC_ALL, 0),
  'error' => error_get_last(),
  'opcache' => function_exists('opcache_get_status') ? opcache_get_status(true) : null,
  'memory' => [memory_get_usage(), memory_get_usage(true)],
  'gc' => array_diff_key(gc_status(), array_flip(['application_time', 'collector_time', 'destructor_time', 'free_time'])),
  'object' => spl_object_id(new stdClass),
  'pid' => getmypid()
], JSON_PARTIAL_OUTPUT_ON_ERROR | JSON_INVALID_UTF8_SUBSTITUTE);
`
