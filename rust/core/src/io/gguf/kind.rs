//! The formats that a file can name.

use crate::kernels::quantized::Format;

/// A format of tensors, by its number in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// ggml's number.
    pub number: u32,
    /// ggml's name.
    pub name: &'static str,
    /// Values in a block; the last axis is a multiple of it.
    pub values: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// How to decode it; none for formats that are only recognised.
    pub format: Option<Format>,
}

const fn decoded(number: u32, name: &'static str, format: Format) -> Kind {
    Kind { number, name, values: format.values(), bytes: format.bytes(), format: Some(format) }
}

const fn known(number: u32, name: &'static str, values: usize, bytes: usize) -> Kind {
    Kind { number, name, values, bytes, format: None }
}

/// Every format that is in use; numbers that are missing were withdrawn.
const KINDS: [Kind; 34] = [
    decoded(0, "F32", Format::F32),
    decoded(1, "F16", Format::F16),
    decoded(2, "Q4_0", Format::Q4_0),
    decoded(3, "Q4_1", Format::Q4_1),
    decoded(6, "Q5_0", Format::Q5_0),
    decoded(7, "Q5_1", Format::Q5_1),
    decoded(8, "Q8_0", Format::Q8_0),
    known(9, "Q8_1", 32, 36),
    decoded(10, "Q2_K", Format::Q2_K),
    decoded(11, "Q3_K", Format::Q3_K),
    decoded(12, "Q4_K", Format::Q4_K),
    decoded(13, "Q5_K", Format::Q5_K),
    decoded(14, "Q6_K", Format::Q6_K),
    known(15, "Q8_K", 256, 292),
    known(16, "IQ2_XXS", 256, 66),
    known(17, "IQ2_XS", 256, 74),
    known(18, "IQ3_XXS", 256, 98),
    known(19, "IQ1_S", 256, 50),
    known(20, "IQ4_NL", 32, 18),
    known(21, "IQ3_S", 256, 110),
    known(22, "IQ2_S", 256, 82),
    known(23, "IQ4_XS", 256, 136),
    known(24, "I8", 1, 1),
    known(25, "I16", 1, 2),
    known(26, "I32", 1, 4),
    known(27, "I64", 1, 8),
    known(28, "F64", 1, 8),
    known(29, "IQ1_M", 256, 56),
    decoded(30, "BF16", Format::BF16),
    known(34, "TQ1_0", 256, 54),
    known(35, "TQ2_0", 256, 66),
    known(39, "MXFP4", 32, 17),
    known(40, "NVFP4", 64, 36),
    known(41, "Q1_0", 128, 18),
];

impl Kind {
    /// The format with ggml's number `number`.
    pub fn numbered(number: u32) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.number == number)
    }

    /// How a file names `format`.
    pub fn of(format: Format) -> Self {
        KINDS.into_iter().find(|kind| kind.format == Some(format)).expect("every format has a number")
    }

    /// Bytes of a tensor of `shape` (row-major); none where that is no number, or rows are no whole blocks.
    pub fn size(self, shape: &[usize]) -> Option<usize> {
        let row = shape.last().copied().unwrap_or(1);
        let values = shape.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis))?;
        // A length that no memory can have is none either: arithmetic on offsets stays far from overflow.
        let bytes = (values / self.values).checked_mul(self.bytes).filter(|&n| isize::try_from(n).is_ok());
        bytes.filter(|_| row.is_multiple_of(self.values))
    }
}
