//! wasmtime's in-place reset, as a peer of wasm-hostmap's restores: one slot of the pooling
//! allocator holds an instance of a module with an initialised heap, whose pages are a memory
//! image. Each round makes the instance, stores a byte in some pages, and drops it.

use std::time::Instant;
use wasmtime::{
    Config, Enabled, Engine, Error, InstanceAllocationStrategy, InstancePre, Linker, Module,
    ModuleExport, PoolingAllocationConfig, Result, Store, bail,
};

pub const USAGE: &str = "reset MODULE KEEP_RESIDENT_BYTES {READ STORE WARMUP_BATCHES BATCHES ROUNDS_PER_BATCH}... \
                         where READ and STORE are FIRST PAGES STRIDE";

/// One byte in each of so many pages.
struct Places {
    first: u32,
    pages: u32,
    stride: u32,
}

impl Places {
    fn addresses(&self) -> impl Iterator<Item = usize> {
        let (first, stride) = (self.first as usize, self.stride as usize);
        (0..self.pages as usize).map(move |page| first + page * stride)
    }
}

/// What an instance reads before the first round, what each round stores to, and how often it is
/// timed: the plan of bench/lib/measure.mjs.
struct Plan {
    read: Places,
    store: Places,
    warmup_batches: u32,
    batches: u32,
    rounds_per_batch: u32,
}

impl Plan {
    fn parse(args: &[String]) -> Result<Self> {
        let numbers: Vec<u32> = args.iter().map(|text| Ok(text.parse()?)).collect::<Result<_>>()?;
        let &[first, pages, stride, a, b, c, warmup_batches, batches, rounds_per_batch] =
            numbers.as_slice()
        else {
            bail!("usage: {USAGE}");
        };
        let read = Places { first, pages, stride };
        let store = Places { first: a, pages: b, stride: c };
        Ok(Self { read, store, warmup_batches, batches, rounds_per_batch })
    }
}

/// The module in its slot, ready to be instantiated.
struct Slot {
    engine: Engine,
    instance: InstancePre<()>,
    touch: ModuleExport,
    memory: ModuleExport,
}

impl Slot {
    fn open(module: &[u8], keep_resident_bytes: usize) -> Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(1)
            .total_memories(1)
            .total_tables(0)
            .linear_memory_keep_resident(keep_resident_bytes)
            .pagemap_scan(Enabled::Auto);
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config)?;
        let module = Module::new(&engine, module)?;
        let export = |name| {
            module.get_export_index(name).ok_or_else(|| Error::msg(format!("no export '{name}'")))
        };
        let (touch, memory) = (export("touch")?, export("memory")?);
        let instance = Linker::new(&engine).instantiate_pre(&module)?;
        Ok(Self { engine, instance, touch, memory })
    }

    /// One request: an instance that stores to the pages, and is reset when it goes.
    fn round(&self, places: &Places, value: u32) -> Result<()> {
        let mut store = Store::new(&self.engine, ());
        let instance = self.instance.instantiate(&mut store)?;
        if places.pages > 0 {
            let touch = instance
                .get_module_export(&mut store, &self.touch)
                .and_then(|export| export.into_func());
            let Some(touch) = touch else { bail!("'touch' is no function") };
            let touch = touch.typed::<(u32, u32, u32, u32), ()>(&store)?;
            touch.call(&mut store, (places.first, places.pages, places.stride, value))?;
        }
        Ok(())
    }

    /// Bytes as a new instance has them.
    fn bytes(&self, places: &Places) -> Result<Vec<u8>> {
        let mut store = Store::new(&self.engine, ());
        let instance = self.instance.instantiate(&mut store)?;
        let memory = instance
            .get_module_export(&mut store, &self.memory)
            .and_then(|export| export.into_memory());
        let Some(memory) = memory else { bail!("'memory' is no memory") };
        let data = memory.data(&store);
        places
            .addresses()
            .map(|address| {
                data.get(address)
                    .copied()
                    .ok_or_else(|| Error::msg(format!("{address} is past the end")))
            })
            .collect()
    }

    /// Nanoseconds per round: a sample is a batch's time divided by its rounds.
    fn time(&self, plan: &Plan) -> Result<Vec<f64>> {
        self.bytes(&plan.read)?;
        let initial = self.bytes(&plan.store)?;
        let mut samples = Vec::new();
        for batch in 0..plan.warmup_batches + plan.batches {
            let start = Instant::now();
            for round in 0..plan.rounds_per_batch {
                self.round(&plan.store, round)?;
            }
            if batch >= plan.warmup_batches {
                samples.push(start.elapsed().as_nanos() as f64 / f64::from(plan.rounds_per_batch));
            }
        }
        if self.bytes(&plan.store)? != initial {
            bail!("an instance saw what the one before had written");
        }
        Ok(samples)
    }
}

/// The samples of each plan, as JSON.
pub fn run(args: &[String]) -> Result<String> {
    let [path, keep_resident_bytes, plans @ ..] = args else {
        bail!("usage: {USAGE}");
    };
    let module = std::fs::read(path)?;
    let keep_resident_bytes = keep_resident_bytes.parse()?;
    let lists: Vec<String> = plans
        .chunks(9)
        .map(|args| {
            // A new slot for each: how much of an old one is in the page tables changes what a
            // reset costs.
            let slot = Slot::open(&module, keep_resident_bytes)?;
            let samples = slot.time(&Plan::parse(args)?)?;
            let list: Vec<String> = samples.iter().map(|ns| format!("{ns:.1}")).collect();
            Ok(format!("[{}]", list.join(",")))
        })
        .collect::<Result<_>>()?;
    let pagemap_scan = PoolingAllocationConfig::is_pagemap_scan_available();
    Ok(format!("{{\"pagemapScan\":{pagemap_scan},\"nsPerRound\":[{}]}}", lists.join(",")))
}
