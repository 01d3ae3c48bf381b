//! Work that takes long, on a thread of Node's pool.
//!
//! Node ends no environment while such work is under way: it waits for it before it runs any
//! cleanup hook (seen in Node 20 to 26). So what the work leads to is there when it is done, and
//! nothing tells that it is not wanted any more but [`NativeTask::cancel`].

use super::{from_count, internal};
use crate::error::Error;
use crate::region::LoadProgress;
use napi::bindgen_prelude::{AsyncTask, ToNapiValue, TypeName};
use napi::{Env, Task};
use napi_derive::napi;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A task, from before it starts until after it ends: can be cancelled, and some tell their
/// progress.
#[napi]
pub struct NativeTask {
    progress: Arc<LoadProgress>,
}

#[napi]
impl NativeTask {
    #[napi(constructor)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { progress: Arc::default() }
    }

    #[napi(getter)]
    pub fn done_bytes(&self) -> f64 {
        from_count(self.progress.loaded_bytes.load(Ordering::Acquire))
    }

    /// 0 as long as it is not known.
    #[napi(getter)]
    pub fn total_bytes(&self) -> f64 {
        from_count(self.progress.total_bytes.load(Ordering::Acquire))
    }

    #[napi]
    pub fn cancel(&self) {
        self.progress.cancelled.store(true, Ordering::Release);
    }
}

impl NativeTask {
    /// What `#[napi]` makes a promise of: `work` is done on the other thread, `finish` on this one.
    pub(super) fn run<Output, JsValue>(
        &self,
        work: impl FnOnce(&LoadProgress) -> Result<Output, Error> + Send + 'static,
        finish: fn(Output) -> napi::Result<JsValue>,
    ) -> AsyncTask<Job<Output, JsValue>>
    where
        Output: Send + 'static,
        JsValue: ToNapiValue + TypeName,
    {
        let progress = Arc::clone(&self.progress);
        AsyncTask::new(Job { progress, work: Some(Box::new(work)), finish })
    }
}

type Work<Output> = Box<dyn FnOnce(&LoadProgress) -> Result<Output, Error> + Send>;

pub struct Job<Output, JsValue> {
    progress: Arc<LoadProgress>,
    work: Option<Work<Output>>,
    finish: fn(Output) -> napi::Result<JsValue>,
}

impl<Output, JsValue> Task for Job<Output, JsValue>
where
    Output: Send + 'static,
    JsValue: ToNapiValue + TypeName,
{
    type Output = Output;
    type JsValue = JsValue;

    fn compute(&mut self) -> napi::Result<Output> {
        let work = self.work.take().ok_or_else(|| internal("a task was run twice"))?;
        without_panic(|| Ok(work(&self.progress)?))
    }

    fn resolve(&mut self, _env: Env, output: Output) -> napi::Result<JsValue> {
        without_panic(|| (self.finish)(output))
    }
}

/// A panic would end the process: napi-rs does not catch those of tasks.
fn without_panic<T>(call: impl FnOnce() -> napi::Result<T>) -> napi::Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err(internal("a task panicked").into()))
}
