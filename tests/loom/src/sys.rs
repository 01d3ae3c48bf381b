//! What the registries use of `src/sys`.

pub fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

pub fn to_u64(number: usize) -> u64 {
    number as u64
}

/// Loom's locks, which have no order: there is one level of them here.
pub mod lock {
    pub use loom::sync::MutexGuard as Guard;

    #[derive(Debug)]
    pub struct Lock<T>(loom::sync::Mutex<T>);

    #[derive(Debug)]
    pub enum Level {
        FaultRegistry,
    }

    impl<T> Lock<T> {
        pub fn new(_: Level, value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> Guard<'_, T> {
            self.0.lock().unwrap()
        }
    }
}
