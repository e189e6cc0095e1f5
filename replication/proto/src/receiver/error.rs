//! Why a link is refused.

use keepshare_base::{ChangeError, Epoch, OriginId, Seq, SetName};

use crate::Refusal;

/// Something that does not belong there.
#[derive(Debug, thiserror::Error)]
pub(super) enum Wrong {
    #[error("a frame came before the hello")]
    BeforeHello,
    #[error("a second hello came")]
    SecondHello,
    #[error("a frame came before the welcome")]
    BeforeWelcome,
    #[error("a master said what stations say")]
    Side,
    #[error("set {0} is not this link's")]
    Set(SetName),
    #[error("origin {got} is not this link's origin {ours}")]
    Origin { got: OriginId, ours: OriginId },
    #[error("epoch {got} is not the agreed epoch {agreed}")]
    Epoch { got: Epoch, agreed: Epoch },
    #[error("epoch {0} is beyond what can follow")]
    EpochBeyond(Epoch),
    #[error("place {0} is beyond what a journal reaches")]
    Beyond(Seq),
    #[error("change {got} came where {want} was asked for again")]
    Gap { got: Seq, want: Seq },
    #[error("gaps came again and again")]
    Gaps,
    #[error("change {0} came where only a mirror can go on")]
    NeedsMirror(Seq),
    #[error("change {0} came inside a mirror")]
    InsideMirror(Seq),
    #[error("part {0} of a mirror came outside one or out of order")]
    Part(u64),
    #[error("a mirror began inside another")]
    SecondMirror,
    #[error("a mirror leads to {at}, and {floor} is here already")]
    MirrorBack { at: Seq, floor: Seq },
    #[error("change {seq} must not be kept: {source}")]
    Change { seq: Seq, source: ChangeError },
}

impl Wrong {
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::Set(_) | Self::Origin { .. } => Refusal::Unknown,
            Self::Epoch { .. } => Refusal::Epoch,
            Self::Change { .. } => Refusal::Change,
            Self::BeforeHello
            | Self::SecondHello
            | Self::BeforeWelcome
            | Self::Side
            | Self::Gap { .. }
            | Self::Gaps
            | Self::NeedsMirror(_)
            | Self::InsideMirror(_)
            | Self::Part(_)
            | Self::SecondMirror
            | Self::EpochBeyond(_)
            | Self::Beyond(_)
            | Self::MirrorBack { .. } => Refusal::Order,
        }
    }
}
