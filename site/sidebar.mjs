// Which pages are where in the sidebar. A page's title is its first heading. `gather.mjs` refuses a
// page of docs/ that is in no group.

export const GROUPS = [
  {
    text: 'Start',
    pages: [
      'docs/getting-started.md',
      'docs/modules.md',
      'docs/concepts.md',
      'docs/data.md',
      'docs/paging.md',
      'docs/sharing.md',
      'docs/processes.md',
      'docs/isolation.md',
      'docs/windows.md',
      'docs/limits.md'
    ]
  },
  {
    text: 'Engines and pools',
    pages: ['docs/engines.md', 'docs/snapshots.md', 'docs/sandbox.md', 'docs/pools.md']
  },
  {
    text: 'In production',
    pages: [
      'docs/platforms.md',
      'docs/bundlers.md',
      'docs/doctor.md',
      'docs/inspect.md',
      'docs/monitoring.md',
      'docs/errors.md',
      'docs/faults.md',
      'SECURITY.md'
    ]
  },
  { text: 'Speed', pages: ['BENCHMARKS.md', 'docs/performance.md'] },
  {
    text: 'How it works',
    pages: ['docs/internals.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'CHANGELOG.md']
  }
]

// The index of docs/ is for readers of the repository: here the sidebar is one.
export const NOT_LISTED = ['docs/README.md']
