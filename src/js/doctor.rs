//! What `wasm-hostmap doctor` asks of the kernel.

use super::from_count;
use crate::error::{Error, MemoryError};
use crate::sys::{SysError, alloc, probe};
use napi_derive::napi;

/// An optional call. `refused` names the error, such as `ENOSYS`, where it can't be had.
#[napi(object, object_from_js = false)]
pub struct NativeAnswer {
    pub name: String,
    pub refused: Option<String>,
}

/// Asks the kernel for each optional call.
#[napi(catch_unwind)]
pub fn probe_kernel() -> napi::Result<Vec<NativeAnswer>> {
    let answers = probe::kernel().into_iter().map(|answer| NativeAnswer {
        name: answer.name.to_owned(),
        refused: answer.outcome.err().map(|sys| format!("{:?}", sys.errno)),
    });
    Ok(alloc::collected(answers).map_err(Error::from)?)
}

/// A limit of the process. `undefined`: there is none.
#[napi(object, object_from_js = false)]
pub struct NativeRlimit {
    pub name: String,
    pub soft: Option<f64>,
    pub hard: Option<f64>,
}

#[napi(catch_unwind)]
pub fn rlimits() -> napi::Result<Vec<NativeRlimit>> {
    let refused = |sys: SysError| Error::from(MemoryError::LimitsUnread { refused: sys.into() });
    let limits = probe::rlimits().map_err(refused)?.into_iter().map(|limit| NativeRlimit {
        name: limit.name.to_owned(),
        soft: limit.soft.map(from_count),
        hard: limit.hard.map(from_count),
    });
    Ok(alloc::collected(limits).map_err(Error::from)?)
}
