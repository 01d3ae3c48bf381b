//! Paged regions in other processes, without Node: a thread of the owner plays the provider, and
//! each receiver is a test that another process runs.

#![allow(clippy::disallowed_types)] // Locks of tests have no place in the order.
#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::paging::{check, chunk_bytes, modes, paged, pager_of, provide, try_to_provide};
use support::{default_action, page_bytes, serial};
use wasm_hostmap::error::Code;
use wasm_hostmap::fault;
use wasm_hostmap::paging::Pager;
use wasm_hostmap::region::Region;
use wasm_hostmap::share::{self, Receivers, ShareAccess, Shareable, Terms, Token};

const TOKEN: &str = "PAGED_TOKEN";
const SWEEP: u64 = 1 << 63;

/// What comes to the owner of a region that others receive.
struct Owner {
    pager: Arc<Pager>,
    asked: Arc<Mutex<Vec<u64>>>,
}

impl Owner {
    /// Chunks from `fails` on fail; those from `never` on never come.
    fn start(region: &Region, socket: OwnedFd, fails: u64, never: u64) -> Self {
        let pager = pager_of(region);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let serve = {
            let (pager, asked) = (Arc::clone(&pager), Arc::clone(&asked));
            move |number: u64| {
                if number >= SWEEP {
                    pager.sweep(number - SWEEP).unwrap();
                    return;
                }
                pager.told(number).unwrap();
                asked.lock().unwrap().push(number);
                if number >= never {
                } else if number >= fails || try_to_provide(&pager, number).is_err() {
                    pager.fail(number).unwrap();
                }
            }
        };
        let of_thread = Arc::clone(&pager);
        std::thread::spawn(move || {
            of_thread.serve().unwrap();
            for_each_number(socket, |number| {
                if number != u64::MAX {
                    return serve(number);
                }
                for newcomer in of_thread.newcomers() {
                    let (serve, pager) = (serve.clone(), Arc::clone(&of_thread));
                    std::thread::spawn(move || {
                        for_each_number(newcomer.touches, serve);
                        pager.dismiss(newcomer.id);
                        drop(newcomer.calls);
                    });
                }
            });
            of_thread.end();
        });
        Self { pager, asked }
    }

    fn asked(&self) -> Vec<u64> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.pager.end();
    }
}

fn for_each_number(socket: OwnedFd, mut take: impl FnMut(u64)) {
    let mut socket = UnixStream::from(socket);
    let mut number = [0; 8];
    while socket.read_exact(&mut number).is_ok() {
        take(u64::from_le_bytes(number));
    }
}

/// Waits for what comes by itself soon.
fn until(mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn encode(token: &Token) -> String {
    let Token { terms, pid, proof, socket } = token;
    let Terms { nonce, device, inode, byte_length, receivers, .. } = terms;
    let nonce = u128::from_be_bytes(*nonce);
    let is_one = *receivers == Receivers::One;
    format!("{pid} {proof} {socket} {nonce} {device} {inode} {byte_length} {is_one}")
}

fn decode(text: &str) -> Token {
    let parts: Vec<&str> = text.split(' ').collect();
    let number = |at: usize| parts[at].parse::<u64>().unwrap();
    let terms = Terms {
        nonce: parts[3].parse::<u128>().unwrap().to_be_bytes(),
        kind: Shareable::PagedRegion,
        receivers: if parts[7] == "true" { Receivers::One } else { Receivers::Any },
        access: ShareAccess::Readonly,
        device: number(4),
        inode: number(5),
        byte_offset: 0,
        byte_length: number(6),
        name: "paged".to_owned(),
    };
    let pid = parts[0].parse().unwrap();
    Token { terms, pid, proof: parts[1].parse().unwrap(), socket: parts[2].to_owned() }
}

/// The region that the token of this process stands for.
fn received() -> Region {
    default_action();
    let token = decode(&std::env::var(TOKEN).expect("another test runs this"));
    let by_userfault = std::env::var("PAGED_BY").ok().map(|by| by == "userfault");
    Region::receive_paged(&token, by_userfault).unwrap()
}

/// A process that runs one of the tests below, and says a line when it is asked for one.
struct Receiver(Child);

impl Receiver {
    fn start(test: &str, token: &Token, by_userfault: bool) -> Self {
        Self::start_with(test, token, by_userfault, Stdio::piped())
    }

    fn start_with(test: &str, token: &Token, by_userfault: bool, output: Stdio) -> Self {
        let this = std::env::current_exe().unwrap();
        let mut command = Command::new(this);
        command.args(["--ignored", "--exact", test, "--test-threads=1", "--nocapture"]);
        command.env(TOKEN, encode(token));
        command.env("PAGED_BY", if by_userfault { "userfault" } else { "empty file" });
        Self(command.stdin(Stdio::piped()).stdout(output).spawn().unwrap())
    }

    /// Waits until it says so.
    fn until(&mut self, word: &str) {
        let mut lines = BufReader::new(self.0.stdout.as_mut().unwrap());
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before {word}");
        }
    }

    fn go_on(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn ends_well(mut self) {
        let mut rest = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        assert!(self.0.wait().unwrap().success(), "{rest}");
    }
}

fn say_and_wait(word: &str) {
    println!("{word}");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// The ways of owner and receiver.
fn ways() -> Vec<(bool, bool)> {
    let modes = modes();
    modes.iter().flat_map(|owner| modes.iter().map(|other| (*owner, *other))).collect()
}

#[test]
fn what_another_process_touches_is_brought_in() {
    let _alone = serial();
    for (owner, other) in ways() {
        let (region, socket) = paged(20 * chunk_bytes() + 10, owner);
        let serving = Owner::start(&region, socket, u64::MAX, u64::MAX);
        let token = region.share(ShareAccess::Readonly, false).unwrap();
        let mut receiver = Receiver::start("touches_all", &token, other);
        receiver.until("first");
        assert_eq!(serving.asked(), [7]);
        assert_eq!(serving.pager.counted().present, 1);
        provide(&serving.pager, 8);
        receiver.go_on();
        receiver.ends_well();
        let mut asked = serving.asked();
        asked.sort_unstable();
        assert_eq!(asked.len(), 20, "each once, but the one that was there");
        assert!(!asked.contains(&8));
        // A token is for one.
        let again = Region::receive_paged(&token, Some(other));
        assert_eq!(again.unwrap_err().code(), Code::ShareUsed);
    }
}

#[test]
#[ignore = "another process runs it"]
fn touches_all() {
    let region = received();
    assert!(!region.is_writable() && region.pager().unwrap().is_received());
    let view = region.view(0, region.byte_length()).unwrap();
    check(view.address() + 7 * chunk_bytes(), 7 * chunk_bytes(), chunk_bytes(), 1);
    say_and_wait("first");
    check(view.address(), 0, region.byte_length(), 1);
    let counted = region.pager().unwrap().counted();
    assert_eq!((counted.failed, counted.present), (0, 21));
    assert_eq!(region.counts().faults(), 0);
}

#[test]
fn a_chunk_that_fails_fails_there_and_one_that_is_asked_for_again_comes() {
    let _alone = serial();
    for (owner, other) in ways() {
        let (region, socket) = paged(4 * chunk_bytes(), owner);
        let serving = Owner::start(&region, socket, 2, u64::MAX);
        let token = region.share(ShareAccess::Readonly, false).unwrap();
        Receiver::start("finds_zeros", &token, other).ends_well();
        assert_eq!(serving.asked(), [1, 2]);
    }
}

#[test]
#[ignore = "another process runs it"]
fn finds_zeros() {
    let region = received();
    let view = region.view(0, region.byte_length()).unwrap();
    check(view.address() + chunk_bytes(), chunk_bytes(), 10, 1);
    assert_eq!(support::read(view.address() + 2 * chunk_bytes()), 0);
    assert_eq!(region.counts().faults(), 1);
    assert_eq!(region.pager().unwrap().counted().failed, 1);
}

#[test]
fn four_processes_that_touch_one_chunk_wait_for_it_together() {
    let _alone = serial();
    for (owner, other) in ways() {
        let (region, socket) = paged(4 * chunk_bytes(), owner);
        let serving = Owner::start(&region, socket, u64::MAX, 3);
        let token = region.offer_to_any(ShareAccess::Readonly, false).unwrap();
        let start = || Receiver::start("touches_the_last", &token, other);
        let mut receivers: Vec<_> = std::iter::repeat_with(start).take(4).collect();
        for receiver in &mut receivers {
            receiver.until("it is here");
        }
        receivers.iter_mut().for_each(Receiver::go_on);
        until(|| !serving.asked().is_empty());
        provide(&serving.pager, 3);
        receivers.into_iter().for_each(Receiver::ends_well);
        assert!(serving.asked().iter().all(|chunk| *chunk == 3));
        assert!(share::end(token.terms.nonce));
        let again = Region::receive_paged(&token, Some(other));
        assert_eq!(again.unwrap_err().code(), Code::ShareClosed);
    }
}

#[test]
#[ignore = "another process runs it"]
fn touches_the_last() {
    let region = received();
    let view = region.view(0, region.byte_length()).unwrap();
    say_and_wait("it is here");
    check(view.address() + 3 * chunk_bytes(), 3 * chunk_bytes(), chunk_bytes(), 1);
}

#[test]
fn nothing_is_taken_out_while_a_receiver_may_have_mapped_it() {
    let _alone = serial();
    for (owner, other) in ways() {
        let is_let_go = owner && other;
        let (region, socket) = paged(8 * chunk_bytes(), owner);
        let serving = Owner::start(&region, socket, u64::MAX, u64::MAX);
        let token = region.share(ShareAccess::Readonly, false).unwrap();
        let mut receiver = Receiver::start("looks_twice", &token, other);
        receiver.until("first");
        for chunk in 0..8 {
            assert_eq!(fault::evict(&serving.pager, chunk).unwrap(), is_let_go, "{chunk}");
        }
        receiver.go_on();
        receiver.until("second");
        assert_eq!(serving.asked().len(), if is_let_go { 16 } else { 8 });
        // However it ends.
        receiver.0.kill().unwrap();
        receiver.0.wait().unwrap();
        until(|| fault::evict(&serving.pager, 5).unwrap());
    }
}

#[test]
#[ignore = "another process runs it"]
fn looks_twice() {
    let region = received();
    let view = region.view(0, region.byte_length()).unwrap();
    check(view.address(), 0, region.byte_length(), page_bytes());
    say_and_wait("first");
    check(view.address(), 0, region.byte_length(), 1);
    assert_eq!(region.counts().faults(), 0);
    say_and_wait("second");
}

#[test]
fn touches_fail_when_the_owner_closes_or_dies() {
    let _alone = serial();
    for (owner, other) in ways() {
        for dies in [false, true] {
            // The owner is a process of its own, which another one receives from.
            let this = std::env::current_exe().unwrap();
            let ran = Command::new(this)
                .args(["--ignored", "--exact", "owns_and_ends", "--test-threads=1", "--nocapture"])
                .env("PAGED_ENDS", format!("{owner} {other} {dies}"))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&ran.stdout);
            assert!(said.contains("it found zeros"), "{said}");
        }
    }
}

#[test]
#[ignore = "another process runs it"]
fn owns_and_ends() {
    let ends = std::env::var("PAGED_ENDS").unwrap();
    let ends: Vec<bool> = ends.split(' ').map(|word| word.parse().unwrap()).collect();
    let (region, socket) = paged(4 * chunk_bytes(), ends[0]);
    let serving = Owner::start(&region, socket, u64::MAX, 2);
    let token = region.share(ShareAccess::Readonly, false).unwrap();
    // What it says goes to who has started this process.
    let receiver = Receiver::start_with("waits_in_vain", &token, ends[1], Stdio::inherit());
    until(|| serving.asked().contains(&2));
    if ends[2] {
        // SAFETY: this process is to end at once.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
    serving.pager.end();
    let Receiver(mut child) = receiver;
    assert!(child.wait().unwrap().success());
}

#[test]
#[ignore = "another process runs it"]
fn waits_in_vain() {
    let region = received();
    let view = region.view(0, region.byte_length()).unwrap();
    check(view.address() + chunk_bytes(), chunk_bytes(), chunk_bytes(), 1);
    let begun = Instant::now();
    assert_eq!(support::read(view.address() + 2 * chunk_bytes()), 0);
    assert!(begun.elapsed() < Duration::from_secs(19), "not by the time that touches wait");
    assert_eq!(region.counts().faults(), 1);
    assert_eq!(support::read(view.address() + 3 * chunk_bytes()), 0, "at once");
    check(view.address() + chunk_bytes(), chunk_bytes(), chunk_bytes(), 1);
    println!("it found zeros");
}

#[test]
fn threads_of_one_process_receive_too_and_numbers_of_strangers_do_no_harm() {
    let _alone = serial();
    for (owner, other) in ways() {
        let (region, socket) = paged(4 * chunk_bytes(), owner);
        let serving = Owner::start(&region, socket, u64::MAX, u64::MAX);
        let token = region.share(ShareAccess::Readonly, false).unwrap();
        let here = Region::receive_paged(&token, Some(other)).unwrap();
        let view = here.view(0, here.byte_length()).unwrap();
        check(view.address(), 0, here.byte_length(), 1);
        let pager = pager_of(&here);
        let refused = |code: Option<Code>| assert_eq!(code, Some(Code::Internal));
        refused(try_to_provide(&pager, 0).err().map(|error| error.code()));
        refused(pager.fail(0).err().map(|error| error.code()));
        refused(pager.serve().err().map(|error| error.code()));
        refused(pager.pin(0, 1).err().map(|error| error.code()));
        refused(fault::evict(&pager, 0).err().map(|error| error.code()));
        let refused = here.share(ShareAccess::Readonly, false).unwrap_err().code();
        assert_eq!(refused, Code::RegionPaged);
        let enforced = region.share(ShareAccess::Readonly, true).unwrap_err().code();
        assert_eq!(enforced, Code::RegionPaged);
        for number in [4, SWEEP - 1] {
            assert!(serving.pager.told(number).is_err() && serving.pager.sweep(number).is_err());
        }
        // What is present is not swept.
        serving.pager.sweep(1).unwrap();
        check(view.address(), 0, here.byte_length(), 1);
        // The owner's region stays open for who has it.
        drop(region);
        assert!(!serving.pager.is_closed());
        drop(pager);
        drop((here, view));
        until(|| serving.pager.is_closed());
    }
}

#[cfg(feature = "inject")]
#[test]
fn whatever_fails_nothing_is_left() {
    use wasm_hostmap::sys::inject;
    const CALLS: [&str; 14] = [
        "memfd_create",
        "ftruncate",
        "fcntl",
        "lseek_checked",
        "fstat",
        "open",
        "mmap",
        "socketpair",
        "connect",
        "sendmsg",
        "recvmsg",
        "getsockopt",
        "accept4",
        "userfaultfd",
    ];
    let _alone = serial();
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    for (owner, other) in ways() {
        let (region, socket) = paged(4 * chunk_bytes(), owner);
        let serving = Owner::start(&region, socket, u64::MAX, u64::MAX);
        let share = || region.share(ShareAccess::Readonly, false);
        let receive = |token: &Token| {
            let here = Region::receive_paged(token, Some(other))?;
            here.view(0, here.byte_length()).map(drop)
        };
        // Threads and connections that are made once.
        receive(&share().unwrap()).unwrap();
        provide(&serving.pager, 0);
        until(|| fault::evict(&serving.pager, 0).unwrap());
        let before = files();
        let mut failed = 0;
        for call in CALLS {
            for which in 0..30 {
                inject::arm(call, which, libc::ENOMEM, None);
                let ended = share().and_then(|token| {
                    let ended = receive(&token);
                    share::end(token.terms.nonce);
                    ended
                });
                let is_over = inject::disarm(None);
                failed += usize::from(ended.is_err());
                // A receiver that came has gone, and keeps nothing.
                provide(&serving.pager, 0);
                until(|| fault::evict(&serving.pager, 0).unwrap());
                until(|| files() <= before);
                if is_over {
                    break;
                }
            }
        }
        assert!(failed > 20, "{failed}");
        receive(&share().unwrap()).unwrap();
    }
}
