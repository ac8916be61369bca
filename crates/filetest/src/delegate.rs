//! Forwards device methods to a wrapped device; shared by all wrapper devices in tests.

/// The methods of [`Device`](aio_backend::Device) that a wrapper forwards to an inner device: all except those that
/// load plans and bursts.
#[macro_export]
macro_rules! delegate {
    ($inner:tt) => {
        fn target(&self) -> ::aio_plan::Target {
            self.$inner.target()
        }

        fn counters(&self) -> ::aio_backend::Counters {
            self.$inner.counters()
        }

        fn upload(
            &self,
            family: &::aio_plan::PlanFamily,
            source: &dyn ::aio_backend::WeightSource,
            pools: ::aio_plan::PoolSizes,
        ) -> Result<::aio_backend::WeightSet, ::aio_backend::DeviceError> {
            self.$inner.upload(family, source, pools)
        }

        fn copy_pages(
            &self,
            weights: &::aio_backend::WeightSet,
            pages: &[(u32, u32)],
        ) -> Result<(), ::aio_backend::DeviceError> {
            self.$inner.copy_pages(weights, pages)
        }

        fn download_state(
            &self,
            weights: &::aio_backend::WeightSet,
            state: usize,
        ) -> Result<Vec<u8>, ::aio_backend::DeviceError> {
            self.$inner.download_state(weights, state)
        }
    };
}
