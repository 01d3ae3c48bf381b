//! Work that takes long, on a thread of Node's pool.
//!
//! Node ends no environment while such work is under way: it waits for it before it runs any
//! cleanup hook (seen in Node 20 to 26). So what the work leads to is there when it is done, and
//! nothing tells that it is not wanted any more but [`NativeTask::cancel`].

// It makes a value of any type for JavaScript.
#![allow(unsafe_code)]

use super::{from_count, internal};
use crate::error::Error;
use crate::region::LoadProgress;
use napi::bindgen_prelude::{AsyncTask, ToNapiValue, TypeName};
use napi::{Env, Task, ValueType, sys};
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
    ) -> AsyncTask<Job>
    where
        Output: Send + 'static,
        JsValue: ToNapiValue + 'static,
    {
        let work = move |progress: &LoadProgress| -> Result<Finish, Error> {
            let output = work(progress)?;
            Ok(Box::new(move |env| Made::of(env, finish(output)?)))
        };
        AsyncTask::new(Job { progress: Arc::clone(&self.progress), work: Some(Box::new(work)) })
    }
}

type Work = Box<dyn FnOnce(&LoadProgress) -> Result<Finish, Error> + Send>;
type Finish = Box<dyn FnOnce(Env) -> napi::Result<Made> + Send>;

/// One type for all work: napi-rs has much code for each type of task.
pub struct Job {
    progress: Arc<LoadProgress>,
    work: Option<Work>,
}

impl Task for Job {
    type Output = Finish;
    type JsValue = Made;

    fn compute(&mut self) -> napi::Result<Finish> {
        let work = self.work.take().ok_or_else(|| internal("a task was run twice"))?;
        without_panic(|| Ok(work(&self.progress)?))
    }

    fn resolve(&mut self, env: Env, finish: Finish) -> napi::Result<Made> {
        without_panic(|| finish(env))
    }
}

/// A value for JavaScript, in the scope of the call that it was made in.
pub struct Made(sys::napi_value);

impl Made {
    fn of(env: Env, value: impl ToNapiValue) -> napi::Result<Self> {
        // SAFETY: napi-rs calls `resolve` with the environment whose thread this is, in a scope for
        // handles.
        unsafe { ToNapiValue::to_napi_value(env.raw(), value) }.map(Self)
    }
}

impl ToNapiValue for Made {
    unsafe fn to_napi_value(_: sys::napi_env, made: Self) -> napi::Result<sys::napi_value> {
        Ok(made.0)
    }
}

impl TypeName for Made {
    fn type_name() -> &'static str {
        "unknown"
    }

    fn value_type() -> ValueType {
        ValueType::Unknown
    }
}

/// A panic would end the process: napi-rs does not catch those of tasks.
fn without_panic<T>(call: impl FnOnce() -> napi::Result<T>) -> napi::Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err(internal("a task panicked").into()))
}
