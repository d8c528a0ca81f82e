//! The network's state to a checkpoint and back.

use milepost_engine::{Checkpoint, Dtype, Error, Result, SaveOptions, SaveReport, Store};

use super::train::Trainer;

/// The run that the demo saves to.
pub(crate) const RUN: &str = "main";
/// The blob with the state of the random source.
const RNG_BLOB: &str = "rng";

/// Saves everything that continuing the training takes.
pub(crate) fn save(store: &Store, trainer: &Trainer, loss: f32) -> Result<SaveReport> {
    let tensors = trainer.tensors();
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, data)| data.iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let rng = trainer.rng_state();
    let mut draft = store.draft(SaveOptions::new(RUN).step(trainer.step_count()))?;
    for ((name, shape, _), bytes) in tensors.iter().zip(&bytes) {
        let shape: Vec<u64> = shape.iter().map(|dim| *dim as u64).collect();
        draft.tensor(name, Dtype::F32, &shape, bytes)?;
    }
    draft.blob(RNG_BLOB, &rng)?;
    draft.metric("loss", f64::from(loss))?;
    draft.commit()
}

/// Takes over what a checkpoint holds.
pub(crate) fn resume(checkpoint: &Checkpoint, trainer: &mut Trainer) -> Result<()> {
    let mut failed = None;
    let tensor = |name: &str| match checkpoint.tensor(name) {
        Ok(bytes) => Some(floats(&bytes)),
        Err(error) => {
            failed.get_or_insert(error);
            None
        }
    };
    let step = checkpoint.manifest().body.step;
    let restored = trainer.restore(tensor, &checkpoint.blob(RNG_BLOB)?, step);
    if let Some(error) = failed {
        return Err(error);
    }
    restored.map_err(|e| Error::corrupt("demo-state", e.to_string()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| f32::from_le_bytes(*word)).collect()
}
