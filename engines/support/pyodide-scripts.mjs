// What Python runs in the tests, the example and the bench of Pyodide.

/** Once in a boot: modules that requests use, and an index of 4,000 products. */
export const PRELUDE = `
import collections, dataclasses, json, math, random, re, statistics, string

@dataclasses.dataclass
class Product:
    id: int
    name: str
    cents: int

things = 'chair lamp kettle ladder shelf basket clock brush bowl frame rope'.split()
products = [
    Product(i, f'{things[(i * 5903) % 11]} model-{i % 97}', 100 + (i * 3571) % 90000)
    for i in range(4000)
]
by_word = collections.defaultdict(list)
for product in products:
    for word in product.name.split():
        by_word[word].append(product)
page = string.Template('<p>$count products, $cents cents, visit $visit</p>')
visits = 0
`

/** A request's script, by its number: it gives JSON, and leaves much behind. */
export const scriptOf = n => `
visits += 1
found = by_word['model-${n % 97}'][:20]
cents = sum(it.cents for it in found)
shown = page.substitute(count=len(found), cents=cents, visit=visits)
leftovers = sorted(key for key in globals() if key.startswith('left'))
left${n} = [found, re.findall('[a-z]+', shown)]
products[${n % 4000}].cents = -1
dict_type, Product.__repr__ = dict, lambda self: 'made up'
json.dumps({'page': shown, 'leftovers': leftovers})
`

/** The answer of that script. */
export function answerOf(n) {
  const ids = Array.from({ length: 4000 }, (_, id) => id).filter(id => id % 97 === n % 97)
  const cents = ids.slice(0, 20).reduce((sum, id) => sum + 100 + ((id * 3571) % 90_000), 0)
  return { page: `<p>20 products, ${cents} cents, visit 1</p>`, leftovers: [] }
}

/** What a boot shows of itself, as JSON. To be run with globals of its own. */
export const DIGEST = `
import ast, builtins, gc, json, os, signal, sys, warnings
main = sys.modules['__main__'].__dict__
plain = (int, float, str, bytes, bool, type(None))

def show(value, depth=0):
    if isinstance(value, plain):
        return repr(value)
    if depth < 2 and isinstance(value, (list, tuple, set, frozenset)) and len(value) < 100:
        shown = [show(it, depth + 1) for it in value]
        return [type(value).__name__, sorted(shown, key=str) if isinstance(value, (set, frozenset)) else shown]
    if depth < 2 and isinstance(value, dict) and len(value) < 100:
        return ['dict', [[show(k, depth + 1), show(v, depth + 1)] for k, v in value.items()]]
    return [type(value).__name__, getattr(value, '__name__', '')]

def descriptors():
    for fd in range(64):
        try:
            stat = os.fstat(fd)
        except OSError:
            continue
        try:
            at = os.lseek(fd, 0, os.SEEK_CUR)
        except OSError:
            at = None
        yield [fd, stat.st_mode, stat.st_size, at]

def tree(top):
    for folder, folders, names in os.walk(top):
        folders[:] = [it for it in folders if (folder, it) not in (('/', 'proc'), ('/', 'dev'))]
        yield [folder, folders, [[it, os.lstat(os.path.join(folder, it)).st_size] for it in names]]

before = os.umask(0)
os.umask(before)
json.dumps({
    'globals': {key: show(value) for key, value in main.items()},
    'builtins': sorted(dir(builtins)),
    'modules': sorted(sys.modules),
    'cwd': os.getcwd(),
    'environ': sorted(os.environ.items()),
    'descriptors': list(descriptors()),
    'files': list(tree('/')),
    'umask': before,
    'sys': [sys.path, sys.argv, sys.getrecursionlimit(), sys.getswitchinterval(), sys.flags.optimize],
    'streams': [[type(it).__name__, it.encoding, it.errors, it.closed]
                for it in (sys.stdin, sys.stdout, sys.stderr)],
    'hooks': [show(it) for it in (sys.excepthook, sys.displayhook, sys.gettrace(), sys.getprofile())],
    'warnings': len(warnings.filters),
    'signals': [show(signal.getsignal(it)) for it in (signal.SIGINT, signal.SIGTERM)],
    'collector': [gc.isenabled(), gc.get_threshold()],
    'literals': repr([[1, 2, 3], {'a': (1.5, 'b')}, ast.dump(ast.parse('[1, 2, 3]'))]),
})
`
