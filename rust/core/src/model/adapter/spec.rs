//! What an adapter is asked to be, checked before anything is made of it.

use crate::error::{Error, Result};
use crate::kernels::dropout::Dropout;
use serde::{Deserialize, Serialize};

/// A projection that is adapted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Its name, as in [`Projection`](crate::model::params::Projection).
    pub name: String,
    /// Rows of A.
    pub r: usize,
    /// The factor of B A.
    pub scale: f32,
}

/// An adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What it adapts.
    pub modules: Vec<Module>,
    /// The share of the inputs of A that fall out in training.
    pub dropout: f32,
    /// Whether rows of the sum of weights and change are given the length of a learned magnitude.
    pub dora: bool,
}

impl Spec {
    /// Reads a specification from JSON and checks it.
    pub fn from_json(json: &str) -> Result<Self> {
        let unreadable = |e: serde_json::Error| {
            Error::value("adapter", "settings", format!("unreadable ({e})"), "give modules, dropout and dora")
        };
        let spec: Spec = serde_json::from_str(json).map_err(unreadable)?;
        spec.validate()?;
        Ok(spec)
    }

    fn validate(&self) -> Result<()> {
        let dropout = Dropout { p: self.dropout, seed: 0, substream: 0, first: 0 };
        dropout.check("adapter")?;
        if self.modules.is_empty() {
            return Err(Error::value("adapter", "modules", "empty", "name a layer to adapt"));
        }
        for (i, module) in self.modules.iter().enumerate() {
            if module.r == 0 {
                return Err(Error::value("adapter", "r", 0, "a rank is at least 1"));
            }
            if !(module.scale.is_finite() && module.scale != 0.0) {
                return Err(Error::value("adapter", "scale", module.scale, "use a number other than 0"));
            }
            if self.modules[..i].iter().any(|other| other.name == module.name) {
                return Err(Error::value("adapter", "modules", format!("{} twice", module.name), "name it once"));
            }
        }
        Ok(())
    }
}
