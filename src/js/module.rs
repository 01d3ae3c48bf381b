//! Modules, and exports for the state that they hide.

use super::{bytes_of, from_count, internal};
use crate::module::{self, Reach, Report, Segment};
use crate::sys::to_usize;
use napi::Env;
use napi::bindgen_prelude::{Uint8Array, Unknown};
use napi_derive::napi;

/// What an instance shows of its state, and what can't be reached.
#[napi(object)]
pub struct NativeReport {
    pub memory_count: u32,
    pub memory: Option<NativeMemoryReport>,
    pub globals: Vec<NativeStateReport>,
    pub tables: Vec<NativeStateReport>,
    /// In words, such as `data segment 0`.
    pub dropped_segments: Vec<String>,
    pub gc_objects: bool,
}

/// The module's only memory.
#[napi(object)]
pub struct NativeMemoryReport {
    pub export_name: String,
    /// The name of the export was added.
    pub added: bool,
    /// Module and name; `undefined` if the module has it itself.
    pub import: Option<Vec<String>>,
    /// In Wasm pages.
    pub initial: f64,
    pub maximum: Option<f64>,
    pub shared: bool,
    pub is64: bool,
}

/// A mutable global, or a table.
#[napi(object)]
pub struct NativeStateReport {
    pub export_name: String,
    pub added: bool,
    pub import: Option<Vec<String>>,
    /// Of its value, or of its elements.
    pub value_type: String,
    /// Whether JavaScript can read and write it.
    pub readable: bool,
}

#[napi(object)]
pub struct NativeExposed {
    pub bytes: Uint8Array,
    pub report: NativeReport,
}

/// The module with its state exported.
#[napi(catch_unwind)]
pub fn expose_state(env: Env, bytes: Unknown<'_>) -> napi::Result<NativeExposed> {
    let exposed = module::expose_state(slice_of(env, &bytes)?)?;
    Ok(NativeExposed { bytes: Uint8Array::new(exposed.bytes), report: exposed.report.into() })
}

/// What stands in the custom section of a module that was exposed; `undefined` for anything else.
#[napi(catch_unwind)]
pub fn read_report(env: Env, section: Unknown<'_>) -> napi::Result<Option<NativeReport>> {
    Ok(Report::decode(slice_of(env, &section)?).map(NativeReport::from))
}

/// The bytes of a Uint8Array, for this call. lib/ passes none over a SharedArrayBuffer, which others might write meanwhile.
fn slice_of<'a>(env: Env, array: &'a Unknown<'_>) -> napi::Result<&'a [u8]> {
    let (address, byte_length) = bytes_of(env, *array)?;
    if byte_length == 0 {
        return Ok(&[]);
    }
    if address == 0 {
        return Err(internal("a Uint8Array with bytes has no address").into());
    }
    // SAFETY: V8 has just told where the bytes of this array are and how many. `array` is a live handle that keeps them,
    // no JavaScript of this thread runs while the slice is in use, and no other thread can reach them.
    Ok(unsafe { std::slice::from_raw_parts(to_usize(address) as *const u8, to_usize(byte_length)) })
}

fn import(reach: &Reach) -> Option<Vec<String>> {
    reach.import.as_ref().map(|(module, name)| vec![module.clone(), name.clone()])
}

impl From<Report> for NativeReport {
    fn from(report: Report) -> Self {
        let memory = report.memory.map(|memory| NativeMemoryReport {
            import: import(&memory.reach),
            export_name: memory.reach.export,
            added: memory.reach.added,
            initial: from_count(memory.initial),
            maximum: memory.maximum.map(from_count),
            shared: memory.shared,
            is64: memory.is_64,
        });
        let globals = report.globals.into_iter().map(|global| NativeStateReport {
            import: import(&global.reach),
            export_name: global.reach.export,
            added: global.reach.added,
            value_type: global.value_type,
            readable: global.readable,
        });
        let tables = report.tables.into_iter().map(|table| NativeStateReport {
            import: import(&table.reach),
            export_name: table.reach.export,
            added: table.reach.added,
            value_type: table.element_type,
            readable: table.readable,
        });
        let dropped_segments = report.dropped_segments.into_iter().map(|segment| match segment {
            Segment::Data(index) => format!("data segment {index}"),
            Segment::Element(index) => format!("element segment {index}"),
        });
        Self {
            memory_count: report.memory_count,
            memory,
            globals: globals.collect(),
            tables: tables.collect(),
            dropped_segments: dropped_segments.collect(),
            gc_objects: report.gc_objects,
        }
    }
}
