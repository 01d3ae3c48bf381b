//! The custom section that holds a report. Its bytes may be made up by anybody: whatever `encode`
//! of this version does not write is no report.

use super::buffers::{push, reserve, sum};
use super::limits::MOST_ADDED;
use super::report::{Added, Few, Memory, Report, Segment, Unreadable, What};
use crate::error::Result;
use wasm_encoder::Encode;
use wasmparser::BinaryReader;

const VERSION: u8 = 2;

impl Report {
    /// The contents of the custom section.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        // Each of them takes at most 11 bytes. All else is bounded but for names, which the module
        // has, too.
        let added_bytes = self.added.len().checked_mul(11).expect("at most 100,000 are added");
        reserve(&mut out, sum([added_bytes, 1 << 12]))?;
        out.push(VERSION);
        self.memory_count.encode(&mut out);
        u32::from(self.memory.is_some()).encode(&mut out);
        if let Some(memory) = &self.memory {
            memory.export.encode(&mut out);
            u32::from(memory.added).encode(&mut out);
            u32::from(memory.import.is_some()).encode(&mut out);
            if let Some((module, name)) = &memory.import {
                module.encode(&mut out);
                name.encode(&mut out);
            }
            memory.initial.encode(&mut out);
            memory.maximum.encode(&mut out);
            u32::from(memory.shared).encode(&mut out);
            u32::from(memory.is_64).encode(&mut out);
        }
        self.export_count.encode(&mut out);
        self.global_count.encode(&mut out);
        self.table_count.encode(&mut out);
        for few in [&self.unreadable_globals, &self.unreadable_tables] {
            few.count.encode(&mut out);
            few.first.len().encode(&mut out);
            for Unreadable { export, ty } in &few.first {
                export.encode(&mut out);
                ty.encode(&mut out);
            }
        }
        self.dropped_segments.count.encode(&mut out);
        self.dropped_segments.first.len().encode(&mut out);
        for segment in &self.dropped_segments.first {
            let (is_element, index) = match *segment {
                Segment::Data(index) => (false, index),
                Segment::Element(index) => (true, index),
            };
            u32::from(is_element).encode(&mut out);
            index.encode(&mut out);
        }
        u32::from(self.gc_objects).encode(&mut out);
        self.added.len().encode(&mut out);
        for added in &self.added {
            let (code, index) = added.what.code();
            out.push(code);
            index.encode(&mut out);
            added.attempt.encode(&mut out);
        }
        Ok(out)
    }

    /// `None` for anything but what `encode` of this version gives.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let mut reader = BinaryReader::new(data, 0);
        let report = Self::decode_from(&mut reader)?;
        reader.eof().then_some(report)
    }

    fn decode_from(reader: &mut BinaryReader<'_>) -> Option<Self> {
        if reader.read_u8().ok()? != VERSION {
            return None;
        }
        let mut report = Self { memory_count: reader.read_var_u32().ok()?, ..Self::default() };
        if read_flag(reader)? {
            let mut memory = Memory {
                export: read_text(reader)?,
                added: read_flag(reader)?,
                ..Memory::default()
            };
            if read_flag(reader)? {
                memory.import = Some((read_text(reader)?, read_text(reader)?));
            }
            memory.initial = reader.read_var_u64().ok()?;
            if read_flag(reader)? {
                memory.maximum = Some(reader.read_var_u64().ok()?);
            }
            memory.shared = read_flag(reader)?;
            memory.is_64 = read_flag(reader)?;
            report.memory = Some(memory);
        }
        report.export_count = reader.read_var_u32().ok()?;
        report.global_count = reader.read_var_u32().ok()?;
        report.table_count = reader.read_var_u32().ok()?;
        let unreadable = |reader: &mut BinaryReader<'_>| {
            Some(Unreadable { export: read_text(reader)?, ty: read_text(reader)? })
        };
        report.unreadable_globals = read_few(reader, unreadable)?;
        report.unreadable_tables = read_few(reader, unreadable)?;
        report.dropped_segments = read_few(reader, |reader| {
            let is_element = read_flag(reader)?;
            let index = reader.read_var_u32().ok()?;
            Some(if is_element { Segment::Element(index) } else { Segment::Data(index) })
        })?;
        report.gc_objects = read_flag(reader)?;
        let added = reader.read_var_u32().ok()?;
        // Each takes many times as much here as in a section that somebody may have made up.
        if added > MOST_ADDED {
            return None;
        }
        for _ in 0..added {
            let code = reader.read_u8().ok()?;
            let what = What::from_code(code, reader.read_var_u32().ok()?)?;
            let attempt = reader.read_var_u32().ok()?;
            push(&mut report.added, Added { what, attempt }).ok()?;
        }
        Some(report)
    }
}

fn read_few<T>(
    reader: &mut BinaryReader<'_>,
    mut read: impl FnMut(&mut BinaryReader<'_>) -> Option<T>,
) -> Option<Few<T>> {
    let count = reader.read_var_u32().ok()?;
    let length = reader.read_var_u32().ok()?;
    let most = count.min(u32::try_from(Few::<T>::MOST).ok()?);
    if length != most {
        return None;
    }
    let first = (0..length).map(|_| read(reader)).collect::<Option<_>>()?;
    Some(Few { first, count })
}

fn read_flag(reader: &mut BinaryReader<'_>) -> Option<bool> {
    match reader.read_u8().ok()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn read_text(reader: &mut BinaryReader<'_>) -> Option<String> {
    reader.read_unlimited_string().ok().map(str::to_owned)
}
