'use strict'

// What `npm run lint` checks. Layout is Prettier's business; here is what a reviewer would say.
// Rules that this project has of its own are at the end, each with its reason.

const js = require('@eslint/js')
const globals = require('globals')

/** Rules for all of our JavaScript, close to those of undici and of Node.js itself. */
const rules = {
  ...js.configs.recommended.rules,
  'accessor-pairs': 'error',
  'array-callback-return': 'error',
  'default-case-last': 'error',
  'dot-notation': 'error',
  eqeqeq: 'error',
  'grouped-accessor-pairs': 'error',
  'logical-assignment-operators': 'error',
  'no-array-constructor': 'error',
  'no-caller': 'error',
  'no-constructor-return': 'error',
  'no-empty': ['error', { allowEmptyCatch: false }],
  'no-eval': ['error', { allowIndirect: true }],
  'no-extend-native': 'error',
  'no-implied-eval': 'error',
  'no-iterator': 'error',
  'no-label-var': 'error',
  'no-lone-blocks': 'error',
  'no-multi-str': 'error',
  'no-new-func': 'error',
  'no-new-wrappers': 'error',
  'no-object-constructor': 'error',
  'no-octal-escape': 'error',
  'no-proto': 'error',
  // Functions that tests send to another process name its globals in comments, `require` too.
  'no-redeclare': ['error', { builtinGlobals: false }],
  'no-self-compare': 'error',
  'no-sequences': 'error',
  'no-template-curly-in-string': 'error',
  'no-throw-literal': 'error',
  'no-unmodified-loop-condition': 'error',
  'no-unneeded-ternary': 'error',
  'no-unreachable-loop': 'error',
  'no-unused-expressions': ['error', { allowShortCircuit: true, allowTaggedTemplates: true }],
  'no-unused-private-class-members': 'error',
  'no-unused-vars': [
    'error',
    { args: 'after-used', argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrors: 'all' }
  ],
  'no-use-before-define': ['error', { functions: false, classes: false, variables: false }],
  'no-useless-call': 'error',
  'no-useless-computed-key': 'error',
  'no-useless-concat': 'error',
  'no-useless-rename': 'error',
  'no-useless-return': 'error',
  'no-var': 'error',
  'object-shorthand': 'error',
  'prefer-arrow-callback': 'error',
  'prefer-const': ['error', { destructuring: 'all', ignoreReadBeforeAssign: true }],
  'prefer-exponentiation-operator': 'error',
  'prefer-numeric-literals': 'error',
  'prefer-object-has-own': 'error',
  'prefer-object-spread': 'error',
  'prefer-regex-literals': 'error',
  'prefer-rest-params': 'error',
  'prefer-spread': 'error',
  'symbol-description': 'error',
  'unicode-bom': 'error',
  yoda: 'error'
}

module.exports = [
  {
    ignores: [
      'target',
      '.matrix',
      'demo/data',
      'examples/data',
      'engines/data',
      'engines/fixtures/*/*/**',
      '.engines-latest',
      'e2e/bundlers/.work',
      'guest',
      'site/pages',
      'site/dist',
      'site/.vitepress/cache',
      'wt-*'
    ]
  },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  {
    files: ['**/*.{js,cjs}'],
    languageOptions: {
      ecmaVersion: 2024,
      sourceType: 'commonjs',
      globals: { ...globals.node, WebAssembly: 'readonly' }
    },
    rules
  },
  {
    files: ['**/*.mjs'],
    languageOptions: {
      ecmaVersion: 2024,
      sourceType: 'module',
      globals: { ...globals.nodeBuiltin, WebAssembly: 'readonly' }
    },
    rules
  },
  {
    files: ['__test__/**/*.{js,mjs}'],
    languageOptions: { globals: globals.jest },
    rules: {
      // A read alone may be what is tested, and a getter or a view is read like that.
      'no-unused-expressions': 'off',
      // Code that V8 is to compile anew, with each access in a function of its own.
      'no-new-func': 'off',
      // Scripts that change Object.prototype are what some tests are about.
      'no-extend-native': 'off',
      // Cleaning up in one expression.
      'no-sequences': 'off'
    }
  },
  {
    files: ['{__test__,bench,demo,engines,examples}/**/*.{js,mjs}'],
    languageOptions: { globals: { gc: 'readonly' } },
    rules: {
      // Callbacks, signals and other threads change what a loop waits for.
      'no-unmodified-loop-condition': 'off'
    }
  },
  {
    // What a sandboxed program calls its host.
    files: ['examples/sandbox/requests.mjs'],
    languageOptions: { globals: { shop: 'readonly' } }
  },
  {
    // They run in a browser, in one scope: see cli/inspect/page/page.js.
    files: ['cli/inspect/page/*.client.js'],
    languageOptions: { sourceType: 'script', globals: globals.browser },
    rules: { 'no-undef': 'off', 'no-unused-vars': 'off' }
  },
  // What it sends to pages.
  { files: ['e2e/inspect/*.mjs'], languageOptions: { globals: globals.browser } },
  {
    files: ['{adapters,cli}/**/*.js'],
    ignores: ['**/*.client.js'],
    rules: { strict: ['error', 'global'] }
  },
  {
    files: ['lib/**/*.js', 'index.js'],
    rules: {
      strict: ['error', 'global'],
      'no-restricted-syntax': [
        'error',
        {
          selector: "MemberExpression[object.name='options']",
          message: 'Options are read once, by their reader in support/options.js.'
        },
        {
          selector:
            'MemberExpression[object.name=/^(region|mapping|snapshot|guarded)$/][property.name=/^(name|byteLength|byteOffset|closed|writable|sealed|backing|strict|unmapped)$/][property.type="Identifier"]',
          message:
            "A caller may have changed what its getters say. Read private fields, by the functions of the object's file."
        }
      ],
      'no-restricted-globals': [
        'error',
        {
          name: 'Uint8Array',
          message: "Scripts may have changed it: platform/intrinsics.js has V8's own."
        }
      ]
    }
  }
]
