//! How pages are replaced on this kernel: in place, or moved over. The head of this folder says
//! why.

use super::pages::{Pages, Sharing};
use std::sync::OnceLock;

/// How pages are replaced. See the head of this folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strategy {
    InPlace,
    MoveOver,
}

pub(super) fn strategy(pages: Pages<'_>) -> Strategy {
    match pages {
        Pages::Zeros | Pages::ReadonlyZeros => strategy_of_kernel(),
        Pages::File { is_memfd, sharing, .. } => strategy_of_file(is_memfd, sharing),
    }
}

fn strategy_of_file(is_memfd: bool, sharing: Sharing) -> Strategy {
    if is_memfd && sharing != Sharing::Shared { strategy_of_kernel() } else { Strategy::MoveOver }
}

/// Finds out how pages are replaced, so that a signal handler need not.
pub fn prepare_for_handler() {
    strategy_of_kernel();
}

fn strategy_of_kernel() -> Strategy {
    static STRATEGY: OnceLock<Strategy> = OnceLock::new();
    *STRATEGY.get_or_init(|| {
        match kernel_version() {
            Some(version) if version >= (6, 12) => Strategy::InPlace,
            // An unknown kernel is treated as an old one: slower, never wrong.
            _ => Strategy::MoveOver,
        }
    })
}

fn kernel_version() -> Option<(u32, u32)> {
    let release =
        nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    release.ok().as_deref().and_then(parse_release)
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether [`replace`](super::replace) puts these pages in place by one system call.
pub fn is_one_step(is_memfd: bool, sharing: Sharing) -> bool {
    strategy_of_file(is_memfd, sharing) == Strategy::InPlace
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_understood() {
        assert_eq!(parse_release("6.12.0-rc1"), Some((6, 12)));
        assert_eq!(parse_release("5.15.153.1-microsoft-standard-WSL2"), Some((5, 15)));
        assert_eq!(parse_release("strange"), None);
    }
}
