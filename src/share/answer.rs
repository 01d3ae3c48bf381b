//! What a sharer answers to a receiver that asks by the socket: one byte. [`Answer::Here`] comes
//! with two descriptors: the proof and the file.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Here,
    Used,
    Closed,
    Altered,
    Unknown,
    Shrunk,
}

impl Answer {
    const ALL: [Self; 6] =
        [Self::Here, Self::Used, Self::Closed, Self::Altered, Self::Unknown, Self::Shrunk];

    pub(super) fn to_byte(self) -> u8 {
        self as u8
    }

    /// `None`: no answer of this version.
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|answer| answer.to_byte() == byte)
    }
}
